"""A hospital share with bad inputs and their sound neighbours, a folder each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ctscribe.imaging.volume import Volume
from ctscribe.problems import Problem

# Each of these adds its builders to the lists.
from tests.bad_inputs import series, sound, tables, volumes
from tests.bad_inputs.faults import VARIANTS, Variant, ct

MODULES = (volumes, series, tables)


def build(
    root: Path, faults: Iterable[int]
) -> tuple[list[Variant], list[sound.Sound], dict[str, Volume]]:
    """Every way of these faults below `root`, a folder each, and what looks like them.

    The last: of folders whose CT must be read as it was, that CT.
    """
    wanted = set(faults)
    bad = [variant for variant in VARIANTS if variant.fault in wanted]
    good = [one for one in sound.SOUND if one.like in wanted]
    whole: dict[str, Volume] = {}
    for number, one in enumerate([*bad, *good]):
        folder = root / folder_of(one)
        folder.mkdir(parents=True)
        written = one.build(folder, ct(1000 * min(wanted) + number))
        if isinstance(written, Volume):
            whole[folder.name] = written
    return bad, good, whole


def folder_of(one: Variant | sound.Sound) -> str:
    return ("ok-" if isinstance(one, sound.Sound) else "bad-") + one.folder


def names(variant: Variant, problems: Iterable[Problem]) -> bool:
    """Whether one of the problems is the variant's own, in its own words."""
    codes = variant.code.split("|")
    return not variant.code or any(
        problem.code in codes and re.search(variant.says, problem.detail) for problem in problems
    )
