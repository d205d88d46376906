from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ctscribe.intake.examine_table import examine_csv
from ctscribe.phantom.dataset import make_dataset

HEAD = "case_id,patient_id,image_path,question,answer"
LONG = (
    "双肺透亮度正常，右肺上叶后段见一枚实性结节，大小约8mm×6mm，边缘光滑，周围见少许索条影；余肺未见"
    "实变，纵隔淋巴结未见肿大，胸腔未见积液，心脏大小正常，胸廓骨质未见破坏。"
)


def table(folder: Path, rows: Sequence[str], head: str = HEAD, encoding: str = "utf-8") -> Path:
    for name in ("a.nii", "b.nii"):
        (folder / name).write_bytes(b"x")
    path = folder / "t.csv"
    path.write_bytes("\n".join([head, *rows]).encode(encoding))
    return path


def found(path: Path) -> set[tuple[str, str]]:
    return {(problem.case, problem.code) for problem in examine_csv(path).problems}


def test_a_sound_table_has_no_problem(tmp_path: Path) -> None:
    rows = [f"A,P1,a.nii,,{LONG}", "B,P2,b.nii,,双肺未见异常", "B,P2,b.nii,有结节吗,未见结节"]
    exam = examine_csv(table(tmp_path, rows, encoding="utf-8-sig"))
    assert exam.problems == ()
    assert [(row.case, row.image) for row in exam.rows] == [
        ("A", tmp_path / "a.nii"),
        ("B", tmp_path / "b.nii"),
        ("B", tmp_path / "b.nii"),
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["A,P1,a.nii,,"], {("A", "report-empty")}),
        (["A,P1,a.nii,,。"], {("A", "report-empty")}),
        (["A,P1,none.nii,,正常"], {("A", "missing")}),
        (["A,P1,,,正常"], {("A", "unmatched")}),
        (["1.23E+15,P1,a.nii,,正常"], {("1.23E+15", "bad-id")}),
        ([",P1,a.nii,,正常"], {("row 2", "bad-id")}),
        (["123.0,P1,a.nii,,正常"], {("123.0", "repaired")}),
        (["A,P1,a.nii,,右肺结节", "A,P1,a.nii,,左肺结节"], {("A", "report-conflict")}),
        (["A,P1,a.nii,,右肺 结节", "A,P1,a.nii,,右肺结节"], {("A", "report-duplicate")}),
        (["A,P1,a.nii,q,右肺", "A,P2,a.nii,,左肺"], {("A", "bad-table")}),
        (["A,P1,a.nii,q,右肺", "A,P1,b.nii,,左肺"], {("A", "bad-table")}),
        (
            [f"A,P1,a.nii,,{LONG}", f"B,P2,b.nii,,{LONG}"],
            {("A", "report-duplicate"), ("B", "report-duplicate")},
        ),
        (
            [f"A,P1,a.nii,,{LONG}", f"B,P2,b.nii,,{LONG.replace('光滑', '光整')}"],
            {("A", "report-duplicate"), ("B", "report-duplicate")},
        ),
        ([f"A,P1,a.nii,,{LONG}", f"B,P2,b.nii,,{LONG.replace('8mm', '9mm')}"], set()),
        (["A,P1,a.nii,,患者电话13812345678"], {("A", "personal-data")}),
        (["A,P1,a.nii,,双肺锟斤拷锟斤拷未见异常"], {("A", "encoding-damage")}),
        (
            ["A,P1,a.nii,,双肺未见异常".encode().decode("latin-1")],
            {("A", "encoding-damage")},
        ),
    ],
    ids=lambda value: "" if isinstance(value, set) else str(value),
)
def test_each_fault_of_a_row_is_named(
    rows: list[str], expected: set[tuple[str, str]], tmp_path: Path
) -> None:
    assert found(table(tmp_path, rows)) == expected


@pytest.mark.parametrize("encoding", ["gbk", "gb18030"])
def test_the_encoding_is_a_note(encoding: str, tmp_path: Path) -> None:
    row = "A,P1,a.nii,,双肺未见异常" + ("䶮" if encoding == "gb18030" else "")
    assert found(table(tmp_path, [row], encoding=encoding)) == {("", "encoding")}


def test_what_cannot_be_read_is_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for data in (b"", b"\xff\xfe\x00", b"a,b\n1,2,3,4\n", "双肺".encode() + b"\xff\xff\n"):
        path.write_bytes(data)
        (problem,) = examine_csv(path).problems
        assert problem.severity == "error"
        assert problem.case == ""
        assert examine_csv(path).rows == ()


def test_columns(tmp_path: Path) -> None:
    assert found(table(tmp_path, ["A,正常"], "case_id,answer")) == {("", "bad-table")}
    assert found(table(tmp_path, ["1,2"], "x,y")) == {("", "left-out")}
    assert found(table(tmp_path, [])) == {("", "bad-table")}


def test_a_patient_in_two_parts_of_a_split_is_a_leak(tmp_path: Path) -> None:
    rows = ["A,P1,a.nii,,右肺,train", "B,P1,b.nii,,左肺,val", "C,P2,b.nii,,双肺,val"]
    assert found(table(tmp_path, rows, HEAD + ",split")) == {
        ("A", "patient-leak"),
        ("B", "patient-leak"),
    }


def test_another_spelling_is_no_other_patient_and_no_other_image(tmp_path: Path) -> None:
    rows = ["A,P 1,a.nii,,右肺,train", "B,ｐ1,b.nii,,左肺,val"]
    codes = {("A", "patient-leak"), ("B", "patient-leak"), ("B", "repaired")}  # its full-width p
    assert found(table(tmp_path, rows, HEAD + ",split")) == codes
    rows = ["A,P 1,./a.nii,,右肺", "A,p1,.\\a.nii,结节?,有"]
    assert found(table(tmp_path, rows)) == set()


def test_a_part_has_one_name_in_capitals_or_not(tmp_path: Path) -> None:
    rows = ["A,P1,a.nii,,右肺,Train", "B,P1,b.nii,,左肺,train ", "C,P2,b.nii,,双肺,VAL"]
    assert found(table(tmp_path, rows, HEAD + ",split")) == set()


def test_only_who_is_known_in_a_part_that_is_named_can_leak(tmp_path: Path) -> None:
    rows = [
        "A,,a.nii,,右肺,train",
        "B,,b.nii,,左肺,val",
        "C,P1,a.nii,,双肺,train",
        "D,P1,b.nii,,肺,",
    ]
    assert found(table(tmp_path, rows, HEAD + ",split")) == {("A", "bad-id"), ("B", "bad-id")}
    rows = ["A,P1,a.nii,,右肺,train", "B,P1,b.nii,,左肺,train", "C,P1,b.nii,,双肺,val"]
    leaks = {(case, "patient-leak") for case in "ABC"}
    assert found(table(tmp_path, rows, HEAD + ",split")) == leaks


@pytest.mark.parametrize(
    ("tail", "words"), [("", "can be mended"), ("????", "question marks where text was")]
)
def test_damage_that_can_be_mended_is_told_from_what_is_lost(
    tail: str, words: str, tmp_path: Path
) -> None:
    row = "A,P1,a.nii,,双肺未见异常".encode().decode("latin-1") + tail
    (problem,) = examine_csv(table(tmp_path, [row])).problems
    assert words in problem.detail


def test_a_name_of_another_column_is_known_in_the_report(tmp_path: Path) -> None:
    rows = ["A,P1,a.nii,,欧阳建国右肺结节,欧阳建国", "B,P2,b.nii,,右肺结节,"]
    assert found(table(tmp_path, rows, HEAD + ",姓名")) == {("A", "personal-data")}


@pytest.mark.parametrize(
    ("cells", "code", "words"),
    [
        ("XX,,", "bad-table", "grade is 'XX'"),
        (",1;2,", "bad-table", "roi_mm is '1;2'"),
        (",,none.nii", "missing", "mask_path: the image is missing"),
    ],
)
def test_what_training_would_refuse_is_named(
    cells: str, code: str, words: str, tmp_path: Path
) -> None:
    rows = [f"A,P1,a.nii,,右肺,{cells}", 'B,P2,b.nii,,右肺,AIS,"1,2,3",a.nii']
    (problem,) = examine_csv(table(tmp_path, rows, HEAD + ",grade,roi_mm,mask_path")).problems
    assert (problem.case, problem.code) == ("A", code)
    assert words in problem.detail


def test_personal_data_is_counted_and_never_quoted(tmp_path: Path) -> None:
    rows = ["A,P1,a.nii,,患者姓名：欧阳建国，电话13812345678，右肺结节"]
    (problem,) = examine_csv(table(tmp_path, rows)).problems
    assert "1 name" in problem.detail
    assert "1 phone" in problem.detail
    assert not any(secret in problem.detail for secret in ("欧阳", "建国", "138"))


def test_a_phantom_data_set_has_only_the_rubbish_it_was_given(tmp_path: Path) -> None:
    """Reports that no person wrote must raise no alarm."""
    made = make_dataset(tmp_path, n_studies=6, seed=7, write_masks=False, workers=1)
    codes = {problem.code for problem in examine_csv(made.table).problems}
    assert codes <= {
        *("report-empty", "missing", "report-duplicate", "personal-data", "encoding"),
        *("report-conflict", "unmatched", "bad-id", "bad-table"),
    }
    assert codes


def test_a_table_that_waits_for_its_reports_is_told_of_once(tmp_path: Path) -> None:
    rows = ["A,P1,a.nii,,,1", "B,P2,none.nii,,,2", "1E+9,P3,b.nii,,,3"]
    path = table(tmp_path, rows, f"{HEAD},accession")
    exam = examine_csv(path)
    assert found(path) == {("", "report-empty"), ("B", "missing"), ("1E+9", "bad-id")}
    (empty,) = [problem for problem in exam.problems if problem.code == "report-empty"]
    assert "none of its 3 rows" in empty.detail
    assert "ctscribe excel" in empty.fix
    assert [row.case for row in exam.rows] == ["A", "B", "1E+9"]
    assert [row.image and row.image.name for row in exam.rows] == ["a.nii", None, "b.nii"]
    rows[0] = "A,P1,a.nii,,右肺结节,1"
    assert ("B", "report-empty") in found(table(tmp_path, rows, f"{HEAD},accession"))
