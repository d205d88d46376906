"""The 25 bad inputs are named, each by its own message; what only looks like them passes.

`benchmarks/guards.py` takes the guards out one by one, and `test_bad_input` must then fail.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from benchmarks.guards import GUARDS
from ctscribe.cli import main
from ctscribe.imaging.volume import voxels_sha256
from ctscribe.intake.examine import Examined, examine
from ctscribe.intake.find import find_cases
from ctscribe.problems import KINDS, Problem
from tests.bad_inputs import sound
from tests.bad_inputs.faults import FAULTS, VARIANTS
from tests.bad_inputs.share import build, folder_of, names

REPO = Path(__file__).parents[1]


def content(root: Path) -> dict[Path, str]:
    files = [file for file in root.rglob("*") if file.is_file()]
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def found_in(root: Path, folder: str, examined: Iterable[Examined]) -> list[Examined]:
    return [one for one in examined if Path(one.file).relative_to(root).parts[0] == folder]


@pytest.mark.parametrize("fault", [f"{number:02}" for number in FAULTS])
def test_bad_input(fault: str, tmp_path: Path) -> None:
    root = tmp_path / "share"
    bad, good, whole = build(root, [int(fault)])
    before = content(root)
    examined = [one for case in find_cases(root).cases for one in examine(case)]
    assert bad
    for variant in bad:
        cases = found_in(root, folder_of(variant), examined)
        problems = [problem for case in cases for problem in case.problems]
        assert cases, variant.folder
        assert names(variant, problems), (variant.folder, problems)
        rejected = [p for p in problems if p.severity == "error"]
        assert bool(rejected) is not variant.loads, (variant.folder, rejected)
    for neighbour in good:
        cases = found_in(root, folder_of(neighbour), examined)
        alarms = [p for case in cases for p in case.problems if p.severity != "note"]
        assert cases, neighbour.folder
        assert not alarms, (neighbour.folder, alarms)
    for folder, volume in whole.items():
        (case,) = found_in(root, folder, examined)
        assert case.voxels_sha256 == voxels_sha256(volume), folder
    assert content(root) == before


def test_a_share_with_every_fault_and_every_sound_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command itself: children, totals, exit code, files."""
    root, out = tmp_path / "share", tmp_path / "out"
    bad, good, _ = build(root, FAULTS)
    before = content(root)
    with pytest.raises(SystemExit) as ended:
        main(["check", str(root), "--output-dir", str(out), "--workers", "2"])
    assert ended.value.code == 2
    assert content(root) == before
    record = json.loads((out / "check.json").read_text(encoding="utf-8"))
    assert record["accepted"] + record["rejected"] == record["cases"] == len(record["examined"])
    problems = [problem for case in record["examined"] for problem in case["problems"]]
    for variant in bad:
        own = [
            Problem(p["case"], p["file"], p["code"], p["detail"])
            for p in problems
            if p["file"].startswith(folder_of(variant))
        ]
        assert names(variant, own), (variant.folder, own)
    for neighbour in good:
        own = [case for case in record["examined"] if case["file"].startswith(folder_of(neighbour))]
        assert own
        assert all(case["verdict"] == "accepted" for case in own), own
        alarms = [p for case in own for p in case["problems"] if p["severity"] != "note"]
        assert not alarms, neighbour.folder
    assert "accepted" in capsys.readouterr().out


def test_the_lists_are_whole() -> None:
    assert sorted(FAULTS) == list(range(1, 26))
    assert {variant.fault for variant in VARIANTS} == set(FAULTS)
    assert sorted(one.like for one in sound.SOUND) == sorted(FAULTS)  # a neighbour each
    assert all(not v.code or set(v.code.split("|")) <= set(KINDS) for v in VARIANTS)
    assert max(Counter(map(folder_of, [*VARIANTS, *sound.SOUND])).values()) == 1


def test_every_guard_stands_where_the_proof_takes_it_out() -> None:
    assert {guard.fault for guard in GUARDS} == set(FAULTS)
    for guard in GUARDS:
        text = (REPO / "src/ctscribe" / guard.file).read_text(encoding="utf-8")
        assert text.count(guard.lines) == 1, (guard.fault, guard.file)
        assert guard.without != guard.lines
