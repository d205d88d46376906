"""A whole folder at once: totals, exit codes, files; and the cases that try to break it."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import openpyxl
import pytest
from typer.testing import CliRunner

from ctscribe.cli import app
from ctscribe.errors import ConfigError, DataError
from ctscribe.imaging.volume import Volume, voxels_sha256
from ctscribe.intake import check
from ctscribe.intake.check import CheckResult, as_json, check_data, show
from ctscribe.intake.check_options import CheckOptions
from ctscribe.intake.check_page import check_page, render_check
from ctscribe.intake.examine import Examined, examine
from ctscribe.intake.find import Case, NotLookedAt
from ctscribe.problems import Problem
from ctscribe.sandbox import Limits
from ctscribe.tables.manifest import load_rows

from .small_ct import rescaled, save, small_ct, turned

HOSTILE = "<img src=x onerror=alert(1)> [red]& 'x'.nii.gz"


def run(folder: Path, out: Path, **options: object) -> CheckResult:
    return check_data(CheckOptions(input=folder, output_dir=out, workers=2, **options))


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() + str(path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def of(result: CheckResult) -> dict[str, set[str]]:
    """Codes of each case, notes too."""
    found: dict[str, set[str]] = {case.case: set() for case in result.cases}
    for case in result.cases:
        found[case.case] |= {problem.code for problem in case.problems}
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and bad files side by side."""
    root = tmp_path_factory.mktemp("数据 集")
    for seed, name in enumerate(("good.nii.gz", "深 层/good.nrrd", "good.mha")):
        save(small_ct(seed), root / name)
    save(turned(small_ct(3), 2), root / "mirrored.nii.gz")
    save(turned(small_ct(4), 0), root / "upside.nii.gz")
    save(turned(small_ct(5), 1, 2), root / "lps as ras.nii.gz")
    save(rescaled(small_ct(6), 2, 0), root / "slope twice.nii.gz")
    save(rescaled(small_ct(6), 1, 1024), root / "raw.nii.gz")
    save(small_ct(7), root / "twin.nii.gz")
    save(small_ct(7), root / "twin.nrrd")
    mask = (small_ct(7).array_zyx > -500).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask.T, small_ct(7).affine), root / "mask.nii.gz")
    (root / "empty.nii.gz").write_bytes(b"")
    (root / HOSTILE).write_text("no image")
    whole = (root / "good.nii.gz").read_bytes()
    (root / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    header = bytearray(gzip.decompress(whole)[:352])
    struct.pack_into("<4h", header, 40, 3, 32767, 32767, 32767)
    (root / "absurd.nii.gz").write_bytes(gzip.compress(bytes(header)))
    (root / "readme.txt").write_text("what this is")
    rows = ["A,P1,good.nii.gz,,右肺上叶见结节", "B,P2,nowhere.nii.gz,,未见异常"]
    (root / "t.csv").write_text(
        "\n".join(["case_id,patient_id,image_path,question,answer", *rows]), encoding="gbk"
    )
    book = openpyxl.Workbook()
    head = ("检查号", "病人编号", "所见")
    for row in (head, ("S001", "P1", "右肺上叶见结节"), ("S002", "P2", "双肺未见异常")):
        book.active.append(row)
    book.save(root / "reports.xlsx")
    (root / "broken.xlsx").write_bytes(b"PK\3\4 no workbook")
    with zipfile.ZipFile(root / "images.zip", "w") as archive:
        archive.write(save(small_ct(8), root / "away.nii.gz"), "张三/inner.nii.gz")
        archive.writestr("notes.txt", "x")
    (root / "away.nii.gz").unlink()
    with zipfile.ZipFile(root / "slip.zip", "w") as archive:
        archive.writestr("../out.dcm", "x")
    (root / "scan").mkdir()
    (root / "scan" / "IM1.dcm").write_bytes(bytes(128) + b"DICM" + b"garbage")
    return root


@pytest.fixture(scope="module")
def checked(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> CheckResult:
    before = contents(folder)
    result = run(folder, tmp_path_factory.mktemp("out"))
    assert contents(folder) == before
    return result


EXPECTED = {
    "good.nii.gz": set(),
    "深 层/good.nrrd": set(),
    "good.mha": set(),
    "mirrored.nii.gz": {"mirrored"},
    "upside.nii.gz": {"upside-down"},
    "lps as ras.nii.gz": {"back-to-front", "mirrored"},
    "slope twice.nii.gz": {"not-hu"},
    "raw.nii.gz": {"not-hu"},
    "twin.nii.gz": {"image-duplicate"},
    "twin.nrrd": {"image-duplicate"},
    "mask.nii.gz": {"left-out"},
    "empty.nii.gz": {"unreadable"},
    HOSTILE: {"unreadable"},
    "cut.nii.gz": {"unreadable"},
    "absurd.nii.gz": {"too-large"},
    "t.csv": {"encoding", "missing"},
    "reports.xlsx": set(),
    "broken.xlsx": None,
    "images.zip/张三/inner.nii.gz": {"left-out"},
    "slip.zip": {"zip-unsafe-name"},
    "scan": None,
}


def test_every_fault_is_named_and_every_sound_case_passes(checked: CheckResult) -> None:
    found = of(checked)
    for name, codes in EXPECTED.items():
        if codes is not None:
            assert found[name] == codes, name
    rejected = {case.case for case in checked.rejected}
    assert {"broken.xlsx", "scan"} <= rejected
    assert {case.case for case in checked.accepted} == {
        *("good.nii.gz", "深 层/good.nrrd", "good.mha", "mask.nii.gz", "reports.xlsx"),
        "images.zip/张三/inner.nii.gz",
    }
    assert checked.others == (
        NotLookedAt("readme.txt", "neither an image, DICOM, .zip, .csv nor .xlsx"),
    )
    assert checked.exit_code == 2


def test_totals_agree_everywhere(checked: CheckResult, capsys: pytest.CaptureFixture) -> None:
    total = len(checked.cases)
    assert total == len(EXPECTED)
    assert len(checked.accepted) + len(checked.rejected) == total
    json_file, html_file = checked.files
    data = json.loads(json_file.read_text(encoding="utf-8"))
    assert (data["cases"], data["accepted"], data["rejected"]) == (
        total,
        len(checked.accepted),
        len(checked.rejected),
    )
    assert sum(data["problems"].values()) == len(checked.problems)
    assert len(data["examined"]) == total
    page = check_page(checked)
    assert (page.total, len(page.accepted), page.rejected) == (
        total,
        data["accepted"],
        data["rejected"],
    )
    assert len(page.lines) == len(checked.problems)
    html = html_file.read_text(encoding="utf-8")
    assert html.count('<td class="case-cell">') == len(checked.problems)
    show(checked)
    screen = capsys.readouterr().out
    assert f"{total} cases: {data['accepted']} accepted, {data['rejected']} rejected" in screen
    assert "not looked at: readme.txt" in screen
    for problem in checked.problems:
        assert problem.code in screen
        assert problem.code in html


def test_a_hostile_name_is_text_on_page_and_screen(
    checked: CheckResult, capsys: pytest.CaptureFixture
) -> None:
    html = checked.files[1].read_text(encoding="utf-8")
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt; [red]&amp; &#39;x&#39;.nii.gz" in html
    assert "<script" not in html
    show(checked)
    assert "[red]" in capsys.readouterr().out


def test_control_characters_and_half_characters_do_not_reach_terminal_or_file(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    name = "a\x1b[31m\u202e\udcff\n.nii"
    problem = Problem(name, name, "unreadable", name, name)
    result = CheckResult(
        tmp_path, (Examined(name, "image", name, (problem,)),), (NotLookedAt(name, "x"),)
    )
    show(result)
    screen = capsys.readouterr().out
    assert "\x1b[31m" not in screen
    assert "\\x1b[31m" in screen
    for text in (render_check(result), json.dumps(as_json(result), ensure_ascii=False)):
        assert "\u202e" not in text
        assert text.encode()


def test_rejected_volumes_are_shown_in_three_planes(checked: CheckResult) -> None:
    by_name = {case.case: case for case in checked.cases}
    for name in ("mirrored.nii.gz", "upside.nii.gz", "slope twice.nii.gz"):
        assert len(by_name[name].planes) == 3
    assert not by_name["good.nii.gz"].planes
    html = checked.files[1].read_text(encoding="utf-8")
    shown = [case for case in checked.cases if case.planes]
    assert html.count("data:image/png;base64,") == 3 * len(shown)
    assert html.count(">R</span>") == 2 * len(shown)


def test_a_table_makes_a_case_of_each_row(folder: Path, tmp_path: Path) -> None:
    rows = [
        "A,P1,good.nii.gz,,右肺上叶见结节",
        "A,P1,good.nii.gz,有结节吗,有",
        "B,P2,mirrored.nii.gz,,未见异常",
        "C,P3,twin.nii.gz,,未见异常",
        "D,P4,twin.nrrd,,未见异常",
        "E,P5,none.nii.gz,,未见异常",
    ]
    cells = [row.split(",") for row in rows]
    lines = [",".join((c, p, f"{folder.name}/{image}", q, a)) for c, p, image, q, a in cells]
    path = folder.parent / "t.csv"
    head = "case_id,patient_id,image_path,question,answer"
    path.write_text("\n".join([head, *lines]), encoding="utf-8")
    result = run(path, tmp_path)
    assert of(result) == {
        "t.csv": set(),
        "A": set(),
        "B": {"mirrored"},
        "C": {"image-duplicate"},
        "D": {"image-duplicate"},
        "E": {"missing"},
    }
    assert len(result.accepted) == 2
    assert result.exit_code == 2
    go_on = tmp_path / "check_accepted.csv"  # what to divide and train on
    assert result.files[-1] == go_on
    assert [(r.case_id, r.answer) for r in load_rows(go_on)] == [
        ("A", "右肺上叶见结节"),
        ("A", "有"),
    ]
    sound = run(go_on, tmp_path)
    assert sound.exit_code == 0
    assert not go_on.exists()  # nothing is rejected, so the table itself is what to go on with
    shuffled = [lines[2], "," + lines[0].partition(",")[2]]  # no case is accepted, one has no id
    path.write_text("\n".join([head, *shuffled]), encoding="utf-8")
    assert run(path, tmp_path).exit_code == 2
    assert not go_on.exists()


def test_no_report_is_of_a_mask(folder: Path, tmp_path: Path) -> None:
    """Alone a mask is passed over; a row that names it in place of its CT cannot be used."""
    path = folder.parent / "masks.csv"
    head = "case_id,patient_id,image_path,question,answer"
    path.write_text(f"{head}\nA,P1,{folder.name}/mask.nii.gz,,右肺上叶见结节", encoding="utf-8")
    result = run(path, tmp_path)
    assert of(result) == {"masks.csv": set(), "A": {"not-hu"}}
    (problem,) = result.problems
    assert "a mask (labels beside 0: 1)" in problem.detail
    assert result.exit_code == 2


def test_nothing_to_check_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="nothing in it to check"):
        run(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"nothing in it to check; a\.txt: neither"):
        run(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_accepted_by_name_is_a_note(folder: Path, tmp_path: Path) -> None:
    result = run(folder / "mirrored.nii.gz", tmp_path, accept="mirrored, not-hu")
    assert of(result) == {"mirrored.nii.gz": {"mirrored"}}
    assert [result.severity(problem) for problem in result.problems] == ["note"]
    assert result.exit_code == 0
    assert len(result.accepted) == 1
    with pytest.raises(ConfigError, match="no code of a problem"):
        CheckOptions(accept="mirored")


def crashing(case: Case) -> tuple[Examined, ...]:
    if "crash" in case.name:
        os._exit(3)
    if "hungry" in case.name:
        return (Examined(str(len(bytes(1 << 31))), "image", ""),)
    return examine(case)


def test_a_child_that_crashes_or_bloats_is_one_rejected_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, name in enumerate(("a.nii.gz", "crash.nii.gz", "hungry.nii.gz", "z.nii.gz")):
        save(small_ct(seed), tmp_path / "set" / name)
    monkeypatch.setattr(check, "examine", crashing)
    result = run(tmp_path / "set", tmp_path / "out", memory_gib=1.0)
    assert of(result) == {
        "a.nii.gz": set(),
        "crash.nii.gz": {"parse-limit"},
        "hungry.nii.gz": {"parse-limit"},
        "z.nii.gz": set(),
    }
    assert result.exit_code == 2


def crashing_headers(case: Case) -> list[Case]:
    os._exit(3)


def test_a_folder_whose_headers_crash_the_reader_is_one_rejected_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(small_ct(0), tmp_path / "set" / "a.nii.gz")
    (tmp_path / "set" / "scan").mkdir()
    (tmp_path / "set" / "scan" / "IM1.dcm").write_bytes(bytes(128) + b"DICM")
    monkeypatch.setattr(check, "studies_of", crashing_headers)
    result = run(tmp_path / "set", tmp_path / "out")
    assert of(result) == {"a.nii.gz": set(), "scan": {"parse-limit"}}
    assert [case.case for case in result.rejected] == ["scan"]


def test_a_bomb_that_keeps_its_promise_costs_no_more_than_is_allowed(tmp_path: Path) -> None:
    """3 GB of zeros in 3 MB, and a header that says so."""
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), small_ct(0).affine)
    header = bytearray(image.header.binaryblock + bytes(4))
    struct.pack_into("<4h", header, 40, 3, 1024, 1024, 1500)
    with gzip.open(tmp_path / "bomb.nii.gz", "wb", compresslevel=1) as file:
        file.write(header)
        for _ in range(188):
            file.write(bytes(16 << 20))
    result = run(tmp_path / "bomb.nii.gz", tmp_path / "out", memory_gib=0.5)
    assert of(result) == {"bomb.nii.gz": {"parse-limit"}}


def test_voxels_have_one_hash_however_they_are_stored(tmp_path: Path) -> None:
    volume = small_ct(0)
    flipped = np.ascontiguousarray(volume.array_zyx[:, ::-1, ::-1])
    affine = volume.affine @ np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:3, 3] = volume.affine[:3, 3] + [
        (n - 1) * mm if axis < 2 else 0
        for axis, (n, mm) in enumerate(
            zip(flipped.shape[::-1], volume.spacing_zyx_mm[::-1], strict=True)
        )
    ]
    nib.save(nib.Nifti1Image(flipped.T.astype(np.float32), affine), tmp_path / "a.nii.gz")
    save(volume, tmp_path / "b.nrrd")
    one, two = (
        examine(Case(name, "image", tmp_path / name))[0].voxels_sha256
        for name in ("a.nii.gz", "b.nrrd")
    )
    assert one == two == voxels_sha256(volume)
    other = volume.array_zyx.copy()
    other[0, 0, 0] += 1
    assert voxels_sha256(Volume(other, volume.spacing_zyx_mm, volume.affine)) != one


@pytest.mark.parametrize(
    ("name", "code"), [("good.mha", 0), ("t.csv", 2), ("mask.nii.gz", 0), ("cut.nii.gz", 2)]
)
def test_the_command_ends_with_the_code_of_the_worst(
    name: str, code: int, folder: Path, tmp_path: Path
) -> None:
    words = ["check", str(folder / name), "--output-dir", str(tmp_path), "--workers", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code, done.output
    rest = {"check_accepted.csv"} if name == "t.csv" else set()
    assert {path.name for path in tmp_path.iterdir()} == {"check.json", "check.html", *rest}


def test_warnings_alone_are_exit_code_1() -> None:
    cases = (Examined("a", "table", "a", (Problem("a", "a", "personal-data", "1 name"),)),)
    result = CheckResult(Path(), cases)
    assert result.exit_code == 1
    assert result.accepted == list(cases)


def test_children_do_without_pytorch() -> None:
    code = (
        "import sys, ctscribe.intake.examine, ctscribe.intake.study, ctscribe.imaging.anatomy;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_headers_of_many_files_have_the_time_that_they_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def run_none(_function: object, _items: object, *, workers: int, limits: Limits) -> object:
        assert workers >= 1
        given.append(limits.seconds)
        return iter(())

    monkeypatch.setattr(check, "run_each", run_none)
    options = CheckOptions(input=tmp_path, seconds=10)
    for files in (20_000, 20):
        check._examined([Case("a", "dicom", tmp_path, (tmp_path,) * files)], options)
    assert given == [20_000 * check.FILE_S, 10]


def test_results_that_cannot_be_written_are_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    options = CheckOptions(input=tmp_path, output_dir=tmp_path / "out")
    with pytest.raises(ConfigError, match="cannot be written"):
        check._write(CheckResult(tmp_path, ()), options)


def test_what_an_earlier_check_wrote_into_the_folder_is_not_checked(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("case_id,patient_id,question,answer\nA,P1,,未见异常", "utf-8")
    first, again = (run(tmp_path, tmp_path / "out") for _ in range(2))
    assert (tmp_path / "out" / "check.html").exists()
    assert (first.cases, first.others) == (again.cases, again.others)
    assert not again.others


def examined(*problems: Problem, case: str = "a", kind: str = "image", sha: str = "") -> Examined:
    return Examined(case, kind, f"{case}.nii", problems, sha)


def test_plain_values_say_which_case_is_rejected_and_what_was_accepted(tmp_path: Path) -> None:
    wrong, odd = (Problem(name, name, "mirrored", "") for name in ("a", "b"))
    cases = (examined(wrong, case="a"), examined(case="b"))
    data = as_json(CheckResult(tmp_path, cases))
    assert [one["verdict"] for one in data["examined"]] == ["rejected", "accepted"]
    assert data["examined"][0]["problems"][0]["severity"] == "error"
    data = as_json(CheckResult(tmp_path, (examined(odd),), accepted_codes=("mirrored",)))
    assert data["examined"][0]["verdict"] == "accepted"
    assert data["examined"][0]["problems"][0]["severity"] == "note"
    assert data["exit_code"] == 0


def test_the_screen_has_forty_problems_and_says_how_many_more(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    problems = [Problem("a", "a", "mirrored", f"number {n:02d}.") for n in range(41)]
    for count, more in ((40, ""), (41, "and 1 more problems, in the files below")):
        show(CheckResult(tmp_path, (examined(*problems[:count]),)))
        said = capsys.readouterr().out
        assert sum(f"number {n:02d}." in said for n in range(41)) == 40
        assert more in said
        assert ("more problems" in said) is bool(more)


def test_copies_are_named_three_and_counted_whatever_they_are() -> None:
    kinds = ("image", "study", "row", "image", "image")
    cases = [examined(case=c, kind=k, sha="x") for c, k in zip("abcde", kinds, strict=True)]
    alone = examined(case="f", sha="y")
    marked = check._with_duplicates([*cases, alone, examined(case="g"), examined(case="h")])
    told = [[p.detail for p in case.problems] for case in marked]
    assert told[0] == ["the same voxels as b, c, d and 1 more"]
    assert told[4] == ["the same voxels as a, b, c and 1 more"]
    assert told[5:] == [[], [], []]
    four = check._with_duplicates(cases[:4])
    assert four[0].problems[0].detail == "the same voxels as b, c, d"


def test_rows_have_the_first_image_of_their_case_and_stand_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "t.csv"
    lines = ("u,P2,b.nii,,未见异常", "A,P1,a.nii,,右肺见结节", "A,P1,other.nii,有结节吗,有")
    table.write_text("\n".join(("case_id,patient_id,image_path,question,answer", *lines)), "utf-8")
    for name in ("a", "b", "other"):
        (tmp_path / f"{name}.nii").write_bytes(b"x")

    def run_none(cases: Sequence[Case], _: CheckOptions, __: str) -> list[Examined]:
        return [Examined(case.name, case.kind, str(case.path)) for case in cases]

    (whole,) = examine(Case("t.csv", "table", table))
    monkeypatch.setattr(check, "_run_examine", run_none)
    cases = check._with_images(whole, CheckOptions())
    assert [(case.case, case.kind, Path(case.file).name) for case in cases] == [
        ("t.csv", "table", "t.csv"),
        ("u", "row", "b.nii"),
        ("A", "row", "a.nii"),
    ]
    monkeypatch.setattr(check, "_examined", lambda *_: [whole])
    result = check_data(CheckOptions(input=table, output_dir=tmp_path / "out"))
    assert [case.case for case in result.cases] == ["A", "t.csv", "u"]
