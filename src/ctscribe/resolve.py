"""Where a setting's value comes from: the first of these that has it.

1. the flag (`--lr 1e-5`);
2. its environment variable (`STAGE2_EPOCHS`), or LOW_VRAM=1 for the settings that it makes small;
3. the command's section of the YAML file (`caption: {lr: 1e-5}`);
4. the file's top level (`caption_csv_train: train.csv`);
5. the default in `config.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from ctscribe.config import SECTIONS, ModelConfig, Paths
from ctscribe.errors import ConfigError
from ctscribe.settings import FALSE, TRUE, Config, Option, convert, flag, options

C = TypeVar("C", bound=Config)
DEFAULT_FILE = Path("config/paths.yaml")


@dataclass(frozen=True)
class SettingsFile:
    """A YAML file, checked: known keys only, values converted. `file` is None if there is none."""

    file: Path | None
    top: dict[str, Any]
    sections: dict[str, dict[str, Any]]


def top_level() -> dict[str, Option]:
    """What may stand at the top level of the YAML file, beside the sections."""
    model = {k: o for k, o in options(ModelConfig).items() if o.setting.key is None}
    return {**options(Paths), **model}


def read_settings(
    file: Path | None = None, sections: Mapping[str, type[Config]] = SECTIONS
) -> SettingsFile:
    """Read `file`, or config/paths.yaml in the current folder if that is there.

    Raises ConfigError for unknown keys, for values of the wrong kind or out of range, for Windows
    paths on another system, and where a file that was asked for is missing.
    """
    if file is None:
        if not DEFAULT_FILE.is_file():
            return SettingsFile(None, {}, {})
        file = DEFAULT_FILE
    content = read_yaml(file)
    known = top_level()
    refuse_unknown(content, [*known, *sections], file)
    top = {
        k: convert(v, known[k], f"{k} in {file}")
        for k, v in content.items()
        if k not in sections and v is not None
    }
    given_in: dict[str, dict[str, Any]] = {}
    for name, cls in sections.items():
        given = content.get(name) or {}
        if not isinstance(given, dict):
            raise ConfigError(
                f"{name} holds no settings", file=file, fix=f"write `{name}:` and lines below it"
            )
        refuse_unknown(given, options(cls), file, f"{name}.")
        given_in[name] = {
            k: convert(v, options(cls)[k], f"{name}.{k} in {file}")
            for k, v in given.items()
            if v is not None
        }
    return SettingsFile(file, top, given_in)


def resolve(
    cls: type[C], flags: Mapping[str, Any], settings: SettingsFile, environ: Mapping[str, str]
) -> C:
    """The settings of one command; see the module's docstring for what wins.

    `flags` holds what the user gave, by name of the field, as text; None is not given.
    """
    values: dict[str, Any] = {}
    low_vram = switch("LOW_VRAM", environ)
    for name, option in options(cls).items():
        about, section = option.setting, settings.sections.get(cls.section, {})
        if flags.get(name) is not None:
            values[name] = convert(flags[name], option, flag(name))
        elif about.env and environ.get(about.env, "").strip():
            values[name] = convert(environ[about.env], option, f"{about.env} ({flag(name)})")
        elif low_vram and about.low_vram is not None:
            values[name] = about.low_vram
        elif name in section:
            values[name] = section[name]
        elif (about.key or name) in settings.top and (about.key or cls is ModelConfig):
            values[name] = settings.top[about.key or name]
    if "model" in {f.name for f in fields(cls)}:
        values["model"] = resolve(ModelConfig, flags, settings, environ)
    return cls(**values)


def require(config: Config, name: str) -> Path:
    """A path that has no default and that the command cannot do without; else a ConfigError."""
    value = getattr(config, name)
    if value is None:
        option = options(type(config))[name]
        where = f", or set {option.setting.key} in {DEFAULT_FILE}" if option.setting.key else ""
        raise ConfigError(f"{flag(name)} is not given", fix=f"pass {flag(name)}{where}")
    assert isinstance(value, Path)
    return value


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file; every way in which it is none is a one-line ConfigError."""
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError("there is no such file", file=file, fix="check --config") from error
    except UnicodeDecodeError as error:
        raise ConfigError("it is not UTF-8", file=file, fix="save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(
            f"it cannot be read ({error.strerror})", file=file, fix="check it"
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or "it is not YAML"
        raise ConfigError(
            f"{line}{problem}",
            file=file,
            fix=r"write `key: value`, and Windows paths without double quotes, such as D:\ct\a.csv",
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError("it holds no settings", file=file, fix="write lines of `key: value`")
    return {str(k): v for k, v in content.items()}


def refuse_unknown(given: Iterable[str], known: Iterable[str], file: Path, where: str = "") -> None:
    """Raise ConfigError for the first key that is not known, with the nearest that is."""
    names = sorted(known)
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(key, names, 1, 0.0)[0]
            raise ConfigError(
                f"unknown key {where}{key}", file=file, fix=f"did you mean {where}{near}?"
            )


def switch(name: str, environ: Mapping[str, str]) -> bool:
    """Whether an environment variable is on; unset and empty are off, and nonsense is an error."""
    value = environ.get(name, "").strip().lower()
    if value in TRUE:
        return True
    if value in FALSE or not value:
        return False
    raise ConfigError(f"{name} is {value!r}", fix=f"set {name} to 1 or 0")
