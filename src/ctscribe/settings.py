"""What a setting is: a field with one sentence, a range, and one way to read its value.

One conversion serves flags, environment and YAML, so that "2e-5" is a number in each of them (YAML
1.1 calls it text) and every complaint names the setting where the user wrote it. `config.py` has
the settings themselves.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from ctscribe.errors import ConfigError

TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
POSIX = os.name != "nt"
_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")


@dataclass(frozen=True)
class Setting:
    """What `config.setting` says of a field; see there."""

    help: str
    low: float | None = None
    high: float | None = None
    key: str | None = None
    env: str | None = None
    low_vram: Any = None
    file_only: bool = False

    @property
    def range(self) -> str | None:
        """`1 to 4096`, or None where any value will do."""
        if self.low is None or self.high is None:
            return None
        return " to ".join(
            str(n) if isinstance(n, int) else f"{n:g}" for n in (self.low, self.high)
        )


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    key: str | None = None,
    env: str | None = None,
    low_vram: Any = None,
    file_only: bool = False,
) -> Any:
    """A field: its default, one sentence, its range, and where else its value may stand.

    `key` is its name at the top level of the YAML file, `env` its environment variable,
    `low_vram` its value where the environment says LOW_VRAM=1; `file_only` makes it no flag.
    """
    about = Setting(help, low, high, key, env, low_vram, file_only)
    return dataclasses.field(default=default, metadata={"setting": about})


@dataclass(frozen=True)
class Config:
    """Base of every settings class: values are checked however the object was made."""

    section: ClassVar[str] = ""  # the class's section in the YAML file

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Option:
    """One field of a settings class, ready to become a flag."""

    name: str
    kind: Any  # int, float, bool, str, Path, a Literal, or a tuple of numbers
    optional: bool
    default: Any
    setting: Setting


def options(cls: type[Config]) -> dict[str, Option]:
    """The settings of a class by name; fields that are settings classes themselves are left out."""
    hints = typing.get_type_hints(cls)
    found = {}
    for f in dataclasses.fields(cls):
        if "setting" in f.metadata:
            kind, optional = _without_none(hints[f.name])
            found[f.name] = Option(f.name, kind, optional, f.default, f.metadata["setting"])
    return found


def flag(name: str) -> str:
    """How `--help` and errors spell a setting; `--max_text_len` is accepted as well."""
    return "--" + name.replace("_", "-")


def check(config: Config) -> None:
    """Raise ConfigError, naming the flag, if a value of a settings object is out of range."""
    for option in options(type(config)).values():
        _check_value(getattr(config, option.name), option, flag(option.name))


def convert(value: Any, option: Option, label: str) -> Any:
    """`value`, as text or as YAML gave it, as the option's type.

    `label` is what the user wrote it under: `--lr`, `STAGE2_EPOCHS`, `lr in config/paths.yaml`.
    Raises ConfigError if it is of another kind or out of range.
    """
    if value is None or value == "":
        if option.optional:
            return None
        if option.kind is str and value == "":
            return ""
        raise ConfigError(f"{label} is empty", fix=f"give {_wanted(option)}")
    try:
        converted = _parse(value, option.kind)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{label} is {_show(value)}, not {_wanted(option)}", fix=f"give {_wanted(option)}"
        ) from error
    _check_value(converted, option, label)
    return converted


def _without_none(hint: Any) -> tuple[Any, bool]:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        rest = [a for a in typing.get_args(hint) if a is not types.NoneType]
        assert len(rest) == 1, hint
        return rest[0], True
    return hint, False


def _parse(value: Any, kind: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        items = re.split(r"[,x]", value) if isinstance(value, str) else value
        items = items if isinstance(items, list | tuple) else [items]
        return tuple(_parse(item, typing.get_args(kind)[0]) for item in items)
    if typing.get_origin(kind) is Literal:
        by_text = {str(choice): choice for choice in typing.get_args(kind)}
        if str(value) not in by_text:
            raise ValueError(value)
        return by_text[str(value)]
    if kind is bool:
        text = str(value).strip().lower()
        if text not in TRUE + FALSE:
            raise ValueError(value)
        return text in TRUE
    if isinstance(value, bool) or not isinstance(value, str | int | float | Path):
        raise ValueError(value)
    if kind is int and isinstance(value, float):
        raise ValueError(value)
    return kind(value.strip() if isinstance(value, str) and kind is not str else value)


def _check_value(value: Any, option: Option, label: str) -> None:
    if isinstance(value, Path) and POSIX and _DRIVE.match(str(value)):
        raise ConfigError(
            f"{label} holds the Windows path {value}, but this machine is not Windows",
            fix="give a path of this machine",
        )
    low, high = option.setting.low, option.setting.high
    if low is None or high is None or value is None:
        return
    for number in value if isinstance(value, tuple) else (value,):
        if not (math.isfinite(number) and low <= number <= high):
            raise ConfigError(
                f"{label} is {number}, outside its range",
                fix=f"give a value from {option.setting.range}",
            )


def _wanted(option: Option) -> str:
    kind = option.kind
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(str(choice) for choice in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return "numbers such as 4,4,4"
    name = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
    what = name.get(kind, "text")
    return f"{what} from {option.setting.range}" if option.setting.range else what


def _show(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)
