"""The settings of `ctscribe check`, apart from what computes, so that `--help` need not wait."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ctscribe.errors import ConfigError
from ctscribe.problems import KINDS
from ctscribe.settings import Config, setting


@dataclass(frozen=True)
class CheckOptions(Config):
    """`ctscribe check`."""

    section = "check"

    input: Path | None = setting(None, "CSV, folder or single file to check.")
    output_dir: Path = setting(Path("outputs/check"), "Folder for check.json and check.html.")
    workers: int | None = setting(
        None, "Cases at once; left out, as many as cores and memory allow.", low=1, high=60
    )
    memory_gib: float = setting(8.0, "Memory that one case may take, in GiB.", low=0.1, high=1024)
    seconds: float = setting(300.0, "Time that one case may take.", low=1, high=86_400)
    accept: str | None = setting(
        None, "Codes of problems that are known and meant, such as mirrored: CODE,CODE."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for code in self.accepted:
            if code not in KINDS:
                raise ConfigError(
                    f"--accept names {code}, which is no code of a problem",
                    fix=f"give some of {', '.join(KINDS)}",
                )

    @property
    def accepted(self) -> tuple[str, ...]:
        """The codes of `accept`."""
        return tuple(code.strip() for code in (self.accept or "").split(",") if code.strip())
