"""Tables in, rows out: encodings, columns, images, splits, leaks; each fault is one line."""

import os
from pathlib import Path

import pytest

from ctscribe.errors import CtscribeError, DataError, ImageError
from ctscribe.tables.csv_file import read_table as read_any
from ctscribe.tables.csv_file import write_table
from ctscribe.tables.manifest import (
    Row,
    load_rows,
    manifest_sha256,
    read_table,
    rebase,
)

HEADER = "case_id,patient_id,image_path,question,answer"


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    file = folder / "rows.csv"
    file.write_bytes(text.encode(encoding))
    return file


def row(case: str, patient: str, image: Path, answer: str = "结节") -> Row:
    return Row(case, patient, image, "", answer)


# 镕 is in gbk; the second is in gb18030 alone.
@pytest.mark.parametrize(
    ("encoding", "answer"),
    [("utf-8", "镕"), ("utf-8-sig", "镕"), ("gbk", "镕右肺"), ("gb18030", "右肺\U00020000")],
)
def test_encodings_are_told_apart(encoding: str, answer: str, tmp_path: Path) -> None:
    frame = read_table(write(tmp_path, f"{HEADER}\nc1,007,a.nii.gz,NA,{answer}\n", encoding))
    assert frame.attrs["encoding"] == encoding
    assert list(frame.columns) == HEADER.split(",")
    # Text as it stands: no number loses its zeros, no word becomes "missing".
    assert list(frame.iloc[0]) == ["c1", "007", "a.nii.gz", "NA", answer]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    frame = read_any(write(tmp_path, 'a,b\n1,"x\ny, ""z"""\n,\n'))
    write_table(frame, tmp_path / "new" / "out.csv")
    again = read_any(tmp_path / "new" / "out.csv")
    assert again.attrs["encoding"] == "utf-8-sig"
    assert again.to_dict("list") == {"a": ["1", ""], "b": ['x\ny, "z"', ""]}
    assert os.listdir(tmp_path / "new") == ["out.csv"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the table is empty"),
        (HEADER.encode("utf-16-le"), "its encoding is none of utf-8"),
        (b"PK\x03\x04 and so on", "Excel workbook"),
        (HEADER.replace(",", "\t").encode(), "divided by tabs"),
        (HEADER.replace(",", ";").encode(), "divided by semicolons"),
        (HEADER.replace("answer", "anwser").encode(), "rename anwser to answer"),
        (HEADER.replace("answer", "xyz").encode(), "add the column answer"),
        ((HEADER + ",answer").encode(), "answer stands there twice"),
        ((HEADER + "\na,b,c,d,e,f").encode(), "no sound CSV .*line 2"),
    ],
)
def test_tables_that_cannot_be_read(data: bytes, says: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(data)
    with pytest.raises(DataError, match=says) as caught:
        read_table(file)
    assert caught.value.file == str(file)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "other.csv")


def test_rows_are_complete_and_paths_are_relative_to_the_table(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.nii.gz").write_bytes(b"x")
    file = write(tmp_path, f"{HEADER},stage\n c1 ,p1,images\\a.nii.gz,问?,答,2\n")
    (only,) = load_rows(file)
    assert only == Row("c1", "p1", tmp_path / "images" / "a.nii.gz", "问?", "答", {"stage": "2"})


@pytest.mark.parametrize(
    ("line", "error", "says"),
    [
        ("c1,p1,lost.nii.gz,,答", ImageError, "case c1, .*lost.nii.gz: the image is missing"),
        ("c1,p1,empty.nii.gz,,答", ImageError, "the image file is empty"),
        ("c1,p1,.,,答", ImageError, "the image is a folder"),
        ("c1,p1,,,答", DataError, "case c1, .*image_path is empty"),
        (",p1,a.nii.gz,,答", DataError, "case in row 2, .*case_id is empty"),
        ("c1,,a.nii.gz,,答", DataError, "patient_id is empty"),
        ("c1,p1,a.nii.gz,,", DataError, "answer is empty"),
        ("c1,p1,a.nii.gz,,答\nc1,p1,b.nii.gz,,答", DataError, "case c1, .*another image_path"),
        ("c1,p1,a.nii.gz,,答\nc1,p2,a.nii.gz,,答", DataError, "another patient_id"),
        ("", DataError, "no rows"),
    ],
)
def test_rows_that_cannot_be_used(
    line: str, error: type[CtscribeError], says: str, tmp_path: Path
) -> None:
    for name, data in (("a", b"x"), ("b", b"x"), ("empty", b"")):
        (tmp_path / f"{name}.nii.gz").write_bytes(data)
    with pytest.raises(error, match=says):
        load_rows(write(tmp_path, f"{HEADER}\n{line}"))


@pytest.mark.skipif(os.name == "nt", reason="Windows uses Windows paths as written")
@pytest.mark.parametrize("path", ["D:\\ct\\a.nii.gz", "d:/ct/a.nii.gz", "\\\\server\\ct\\a.nii"])
def test_a_windows_path_elsewhere_names_the_row(path: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"case c7, .*is the Windows path .*not Windows"):
        load_rows(write(tmp_path, f"{HEADER}\nc7,p1,{path},,答"), check_images=False)
    assert rebase(path, tmp_path, tmp_path / "x") == path


def test_all_missing_images_are_counted_in_one_error(tmp_path: Path) -> None:
    lines = "\n".join(f"c{i},p1,lost{i}.nii.gz,,答" for i in range(8))
    with pytest.raises(ImageError, match=r"8 of 8 rows .*c4 .*lost4.nii.gz\) and 3 more"):
        load_rows(write(tmp_path, f"{HEADER}\n{lines}"))


def test_a_case_has_one_patient_and_one_report_for_a_question(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"x")
    spelled = f"{HEADER}\nc1,P1,a.nii.gz,问一,答\nc1,ｐ 1,a.nii.gz,问二,另答\n"
    assert len(load_rows(write(tmp_path, spelled))) == 2
    conflict = spelled.replace("问二", "问一")
    with pytest.raises(DataError, match=r"case c1, .*with different reports") as caught:
        load_rows(write(tmp_path, conflict))
    assert caught.value.code == "report-conflict"


def test_errors_have_their_codes(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"x")
    for line, code in (
        ("c1,p1,lost.nii.gz,,答", "missing"),
        ("c1,p1,a.nii.gz,,", "report-empty"),
        ("c1,,a.nii.gz,,答", "bad-table"),
        ("c1,p1,,,答", "bad-table"),
        ("", "bad-table"),
    ):
        with pytest.raises(DataError) as caught:
            load_rows(write(tmp_path, f"{HEADER}\n{line}"))
        assert caught.value.code == code


def test_the_manifest_hash_knows_contents_not_order_or_folder(tmp_path: Path) -> None:
    rows = []
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.nii").write_bytes(b"123")
        rows.append([row("c1", "p1", tmp_path / folder / "a.nii"), row("c2", "p2", Path("b"))])
    assert manifest_sha256(rows[0]) == manifest_sha256(rows[1][::-1])
    assert manifest_sha256(rows[0]) != manifest_sha256(rows[0][:1])
    (tmp_path / "x" / "a.nii").write_bytes(b"1234")
    assert manifest_sha256(rows[0]) != manifest_sha256(rows[1])
