"""The exception tree. Every error a user can cause is one line: what, where, why, and the fix.

CtscribeError            exit code 2: something the user can put right
├── ConfigError          a key, flag or environment variable is unknown or out of range
├── DataError            a table or its rows: wrong columns, encoding, unmatched keys, leaks
│   └── ImageError       an image is missing, unreadable, or holds no plausible chest
├── CheckpointError      weights that are absent, corrupt, or from another configuration
├── GateError            stage 1 did not reach the thresholds that stage 2 needs
├── KernelError          a GPU kernel cannot be compiled, loaded or launched
└── GenerationError      the language model wrote nothing
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any


class CtscribeError(Exception):
    """One line naming case, file, reason and fix; `exit_code` is what the command returns.

    code: which of `problems.KINDS` it is, empty where it is none of a data set's.
    """

    exit_code = 2

    def __init__(
        self,
        reason: str,
        *,
        fix: str,
        case: str | None = None,
        file: str | Path | None = None,
        code: str = "",
    ) -> None:
        self.reason, self.fix, self.case, self.code = reason, fix, case, code
        self.file = None if file is None else str(file)
        where = [f"case {case}"] if case else []
        where += [str(file)] if file is not None else []
        message = f"{', '.join(where)}: {reason}" if where else reason
        super().__init__(" ".join(f"{message}. Fix: {fix}".split()))

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own would drop what is named: a worker process's error broke its pool.
        named = partial(type(self), fix=self.fix, case=self.case, file=self.file, code=self.code)
        return named, (self.reason,)


class ConfigError(CtscribeError):
    """A setting is unknown, missing or out of range."""


class DataError(CtscribeError):
    """A table cannot be used as it is."""


class ImageError(DataError):
    """An image is missing, unreadable, or not a chest CT."""


class CheckpointError(CtscribeError):
    """Weights are absent, corrupt, or belong to another configuration."""


class GateError(CtscribeError):
    """Stage 1 stayed below the thresholds that make stage 2 worth its time."""


class TrainingError(CtscribeError):
    """Training went astray: what it would save is worth nothing."""


class KernelError(CtscribeError):
    """A GPU kernel cannot be compiled, loaded or launched."""


class GenerationError(CtscribeError):
    """The language model generated no text."""
