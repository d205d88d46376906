"""What a look at a workbook finds, for `ctscribe check`."""

from __future__ import annotations

from pathlib import Path

from ctscribe.problems import Problem


def examine_workbook(path: str | Path, *, include_hidden: bool = False) -> list[Problem]:
    """Every problem of a workbook of reports, each with sheet!row or sheet!cell in its detail.

    Never raises for what the file holds: a workbook that cannot be read is one Problem.
    """
    raise NotImplementedError
