"""A sheet and its images: joined by id whatever the order, and all that does not match is told."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from ctscribe.errors import ConfigError, CtscribeError, DataError
from ctscribe.tables.excel import ExcelOptions, excel_to_captions, run_excel
from ctscribe.tables.ids import cell_text, read_id
from ctscribe.tables.manifest import load_rows, read_table
from ctscribe.tables.pseudonym import Identity, Pseudonyms

COLUMNS = ("检查号", "患者ID", "所见", "结论", "建议", "病理倾向")


def workbook(
    folder: Path, rows: Sequence[Sequence[Any]], columns: Sequence[str] = COLUMNS, title: str = ""
) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    if title:
        sheet.append([title])
        sheet.append([])
    sheet.append(list(columns))
    for row in rows:
        sheet.append(list(row))
    file = folder / "报告 总表.xlsx"
    book.save(file)
    return file


def pairs(folder: Path, *lines: str, header: str = "accession,image_path") -> Path:
    """A CSV of pairs; images that do not start with "lost" exist."""
    for line in lines:
        name = line.split(",")[1]
        if not name.startswith("lost"):
            (folder / name).write_bytes(b"x")
    file = folder / "pairs.csv"
    file.write_text("\n".join([header, *lines]), encoding="gbk")
    return file


def report(i: int, patient: str | None = None) -> tuple[Any, ...]:
    return (f"A{i}", patient or f"P{i}", f"右肺结节{i}mm。", f"肺结节{i}。", "复查。", "")


def test_joined_by_id_not_by_position(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    excel = workbook(tmp_path, [report(i, f"P{i // 2}") for i in range(20)], title="2024年报告")
    order = [7, 3, 19, 0, 12, *(i for i in range(20) if i not in (7, 3, 19, 0, 12))]
    csv = pairs(tmp_path, *(f"A{i},c{i}.nii.gz" for i in order))
    out = tmp_path / "out"
    run_excel(ExcelOptions(excel=excel, out_dir=out, pairs_csv=csv, val_ratio=0.3))
    rows = {name: load_rows(out / f"caption_{name}.csv") for name in ("full", "train", "val")}
    assert len(rows["full"]) == 20
    for row in rows["full"]:
        number = row.case_id[1:]
        assert row.image_path.resolve() == tmp_path / f"c{number}.nii.gz"
        assert row.patient_id == f"P{int(number) // 2}"
        assert row.answer == (f"所见：右肺结节{number}mm。\n结论：肺结节{number}。\n建议：复查。")
        assert row.extra == {"accession": row.case_id}
    patients = {name: {r.patient_id for r in part} for name, part in rows.items()}
    assert not patients["train"] & patients["val"]
    assert len(patients["val"]) == 3
    assert len(rows["train"]) + len(rows["val"]) == 20
    assert "ids from 检查号, patients from 患者ID" in capsys.readouterr().out


def test_what_does_not_match_is_rejected_with_its_reason_on_both_sides(tmp_path: Path) -> None:
    rows = [report(i) for i in range(4)]
    rows += [report(4), report(4), report(5), ("A5", "P5", "左肺实变。", "", "", "")]
    rows += [report(6), report(7), report(8), ("1.23E+15", "P9", "右肺结节。", "", "", "")]
    rows += [("A10", "", "右肺结节。", "", "", ""), ("A11", "P11", "", None, "#N/A", "")]
    excel = workbook(tmp_path, rows)
    csv = pairs(
        tmp_path,
        *(f"A{i},c{i}.nii.gz" for i in range(6)),
        *("A6,c6.nii.gz", "A6,d6.nii.gz", "A8,lost.nii.gz", "A0,c0.nii.gz", "B1,e.nii.gz"),
    )
    result = excel_to_captions(ExcelOptions(excel=excel, pairs_csv=csv))
    assert sorted(result.full["case_id"]) == ["A0", "A1", "A2", "A3", "A4"]
    reasons = {
        (r["source"], r["row"], r["id"]): r["reason"] for r in result.rejected.to_dict("records")
    }
    assert reasons == {
        ("excel", "7", "A4"): "the same again as Sheet!6",
        ("excel", "8", "A5"): "Sheet!8, Sheet!9 give id A5 different reports or patients",
        ("excel", "9", "A5"): "Sheet!8, Sheet!9 give id A5 different reports or patients",
        ("excel", "10", "A6"): "its image: id A6 has 2 images",
        ("excel", "11", "A7"): "no image has this id",
        ("excel", "12", "A8"): "its image: the image is missing",
        ("excel", "13", ""): "the id 1.23E+15 has lost digits in Excel",
        ("excel", "14", "A10"): "there is no id of its patient",
        ("excel", "15", "A11"): "column 建议: cell E15 holds the error #N/A: correct it in Excel",
        (
            "images",
            "7",
            "A5",
        ): "its report: Sheet!8, Sheet!9 give id A5 different reports or patients",
        ("images", "8", "A6"): "id A6 has 2 images",
        ("images", "9", "A6"): "id A6 has 2 images",
        ("images", "10", "A8"): "the image is missing",
        ("images", "11", "A0"): "the same again as row 2",
        ("images", "12", "B1"): "no report has this id",
    }
    # Nothing is lost: what was read is in one table or the other.
    assert len(result.full) + sum(source == "excel" for source, *_ in reasons) == len(rows)


@pytest.mark.parametrize(
    ("cell", "text", "about"),
    [
        ("A1 ", "A1", ""),
        ("００１２", "0012", ""),
        ("'0012", "0012", ""),
        (12, "12", ""),
        (12.0, "12", ""),
        ("12.0", "12", "read as 12"),
        ("1.23456E+5", "123456", "read as 123456"),
        ("1.23E+15", "", "lost digits"),
        ("1E5", "", "lost digits"),
        ("1.2E+2", "", "lost digits"),
        (123456789012345, "123456789012345", ""),
        (1230000000000000, "", "keeps 15 digits"),
        (1.23e15, "", "keeps 15 digits"),
        (1.5, "", "no whole number"),
        (datetime.datetime(2024, 5, 1), "", "became a date"),
        (datetime.time(12, 30), "", "became a date"),
        (datetime.timedelta(hours=30), "", "became a date"),
        (9007199254740993, "", "keeps 15 digits"),
        (1234567890123456, "1234567890123456", ""),
        (None, "", "no id"),
        ("1.2.840.113", "1.2.840.113", ""),
    ],
)
def test_ids_that_excel_mangled(cell: Any, text: str, about: str) -> None:
    got = read_id(cell)
    assert got.text == text
    assert about in (got.fault or got.note or "")
    assert bool(got.fault) == (not text)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (12.0, "12"),
        (1234567.0, "1234567"),
        (123456789012345.0, "123456789012345"),
        (1.5, "1.5"),
        (None, ""),
        ("#N/A", ""),
        (datetime.datetime(2024, 5, 1), "2024-05-01"),
        (datetime.datetime(2024, 5, 1, 8, 30), "2024-05-01 08:30:00"),
    ],
)
def test_a_cell_as_text(cell: Any, text: str) -> None:
    assert cell_text(cell) == text


def test_images_in_a_folder_by_file_or_folder_name(tmp_path: Path) -> None:
    excel = workbook(tmp_path, [report(i) for i in range(4)])
    for name in ("r/A0.nii.gz", "r/A1_0000.nii.gz", "r/A2/ct.mha", "r/x/A9.nii", "r/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    result = excel_to_captions(ExcelOptions(excel=excel, image_root=tmp_path / "r"))
    images = dict(zip(result.full["case_id"], result.full["image_path"], strict=True))
    assert {case: Path(p).name for case, p in images.items()} == {
        "A0": "A0.nii.gz",
        "A1": "A1_0000.nii.gz",
        "A2": "ct.mha",
    }
    left = list(zip(result.rejected["id"], result.rejected["reason"], strict=True))
    assert left == [("A3", "no image has this id"), ("A9", "no report has this id")]


def test_each_option_does_what_it_says(tmp_path: Path) -> None:
    columns = ("编号X", "姓名", "诊断", "结论", "报告", "question")
    rows = [
        ("1", "张三", "肺结节", "肺结节", "不用", "问?"),
        ("2", "李四", "气肿", "实变", "", ""),
        ("3", "王五", "好", "", "", ""),
    ]
    book = openpyxl.load_workbook(workbook(tmp_path, rows, columns))
    book.create_sheet("空", 0)
    book.save(tmp_path / "b.xlsx")
    header = "序,号码,文件"
    csv = pairs(tmp_path, *(f"{i},{i}.nii.gz,{i}.nii.gz" for i in (1, 2, 3)), header=header)
    options: dict[str, Any] = dict(
        excel=tmp_path / "b.xlsx",
        pairs_csv=csv,
        sheet_index=1,
        excel_id_col="编号X",
        pairs_id_col="序",
        pairs_path_col="文件",
        salt_file=tmp_path / "secret" / "salt",
    )
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "salt").write_bytes(bytes(32))
    options["out_dir"] = tmp_path / "out"
    result = excel_to_captions(ExcelOptions(**options))
    assert list(result.full["answer"]) == ["结论：肺结节", "结论：气肿\n实变", "结论：好"]
    assert list(result.full["question"]) == ["问?", "", ""]
    written = result.full.to_csv() + result.rejected.to_csv()
    assert "张三" not in written  # a name is no id to hand on
    assert result.full["patient_id"].nunique() == 3
    ids = Pseudonyms(bytes(32))  # a plain hash could be undone by trying all names
    assert ids.patient(Identity(name="张三"), study="") in set(result.full["patient_id"])
    assert "patient_id is a pseudonym of the name in the sheet" in " ".join(result.notes)
    more = dict(answer_prefix="报告：", force_numbered_prefix=True, min_answer_chars=6)
    result = excel_to_captions(ExcelOptions(**options, **more))
    assert list(result.full["answer"]) == ["报告：结论：1.肺结节", "报告：结论：1.气肿\n实变"]
    assert result.rejected["reason"].iloc[0].startswith("min_answer_chars: 4 characters")
    result = excel_to_captions(ExcelOptions(**options, require_keywords="结节|好", val_ratio=0.5))
    assert sorted(result.full["case_id"]) == ["1", "3"]
    assert (len(result.train), len(result.val)) == (1, 1)
    assert sorted([*result.train["case_id"], *result.val["case_id"]]) == ["1", "3"]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"excel": None}, ConfigError, "--excel is not given"),
        ({"pairs_csv": None}, ConfigError, "neither --pairs-csv nor --image-root"),
        ({"image_root": Path("x")}, ConfigError, "both given"),
        ({"require_keywords": "("}, ConfigError, "--require-keywords"),
        ({"sheet_index": 3}, DataError, "no sheet 3, only 0 Sheet"),
        ({"excel": "none.xlsx"}, DataError, "no such file"),
        ({"excel": "pairs.csv"}, DataError, "no .xlsx workbook"),
        ({"excel_id_col": "检查编号"}, DataError, "no column 检查编号, only 检查号"),
        ({"patient_id_col": "x"}, DataError, "--patient-id-col"),
        ({"pairs_id_col": "x"}, DataError, "no column x, only accession, image_path"),
        ({"pairs_path_col": "accession"}, DataError, "no report has an image"),
    ],
)
def test_refusals_write_nothing(
    change: dict[str, Any], error: type[CtscribeError], says: str, tmp_path: Path
) -> None:
    excel = workbook(tmp_path, [report(i) for i in range(4)])
    csv = pairs(tmp_path, *(f"A{i},c{i}.nii.gz" for i in range(4)))
    if isinstance(change.get("excel"), str):
        change = {"excel": tmp_path / change["excel"]}
    out = tmp_path / "out"
    with pytest.raises(error, match=says) as caught:
        run_excel(ExcelOptions(**{"excel": excel, "pairs_csv": csv, "out_dir": out, **change}))
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_no_common_id_shows_both_sides(tmp_path: Path) -> None:
    excel = workbook(tmp_path, [report(i) for i in range(3)])
    csv = pairs(tmp_path, "B1,x.nii.gz")
    with pytest.raises(DataError, match="A0, A1, A2 and B1"):
        excel_to_captions(ExcelOptions(excel=excel, pairs_csv=csv))


def test_the_rejected_table_is_there_even_if_empty(tmp_path: Path) -> None:
    excel = workbook(tmp_path, [report(i) for i in range(3)])
    csv = pairs(tmp_path, *(f"A{i},c{i}.nii.gz" for i in range(3)))
    result = run_excel(ExcelOptions(excel=excel, pairs_csv=csv))
    assert result.rejected.empty
    assert read_table(tmp_path / "caption_rejected.csv", required=["reason"]).empty


def test_patients_are_those_of_the_images_where_these_know_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = "accession,image_path,patient_id"
    lines = [f"A{i},c{i}.nii.gz,pseudo{i // 2}" for i in range(6)]
    csv = pairs(tmp_path, *lines, header=header)
    excel = workbook(tmp_path, [report(i, f"P{i // 2}") for i in range(6)])
    result = run_excel(ExcelOptions(excel=excel, pairs_csv=csv, out_dir=tmp_path / "out"))
    expected = [f"pseudo{i // 2}" for i in range(6)]
    assert sorted(result.full.patient_id) == expected
    assert not any("P1" in file.read_text("utf-8-sig") for file in (tmp_path / "out").iterdir())
    said = capsys.readouterr().out
    assert "patient_id is that of --pairs-csv" in said
    assert "warning" not in said
    assert "not read: none" in said
    lines[-1] = "A5,c5.nii.gz,"  # not all of them are known
    csv = pairs(tmp_path, *lines, header=header)
    result = excel_to_captions(ExcelOptions(excel=excel, pairs_csv=csv))
    assert any(note.startswith("warning: row 7 of --pairs-csv without") for note in result.notes)
    assert sorted(result.full.patient_id) == [f"P{i // 2}" for i in range(6)]


def test_persons_that_sheet_and_images_tell_apart_otherwise_are_warned_of(tmp_path: Path) -> None:
    lines = [f"A{i},c{i}.nii.gz,{'00112'[i]}" for i in range(5)]
    csv = pairs(tmp_path, *lines, header="accession,image_path,patient_id")
    excel = workbook(tmp_path, [report(i, "PPQRS"[i]) for i in range(5)])
    notes = "\n".join(excel_to_captions(ExcelOptions(excel=excel, pairs_csv=csv)).notes)
    assert "warning: 1 patient of the images has several ids in the sheet" in notes
    assert "of the sheet" not in notes
    excel = workbook(tmp_path, [report(i, "PQRRR"[i]) for i in range(5)])
    notes = "\n".join(excel_to_captions(ExcelOptions(excel=excel, pairs_csv=csv)).notes)
    assert "warning: 1 patient of the sheet has several ids in the images" in notes
    assert "(Sheet!4 and Sheet!6)" in notes


def test_a_case_keeps_the_pseudonym_that_its_image_has(tmp_path: Path) -> None:
    header = "case_id,accession,image_path,patient_id"
    lines = [f"case{i},A{i},c{i}.nii.gz,p{i}" for i in range(3)]
    (tmp_path / "pairs.csv").write_text("\n".join([header, *lines]), encoding="utf-8")
    for i in range(3):
        (tmp_path / f"c{i}.nii.gz").write_bytes(b"x")
    excel = workbook(tmp_path, [report(i) for i in range(3)])
    options = ExcelOptions(excel=excel, pairs_csv=tmp_path / "pairs.csv")
    full = excel_to_captions(options).full
    assert list(full.case_id) == ["case0", "case1", "case2"]
    assert list(full.accession) == ["A0", "A1", "A2"]
    text = "\n".join([header, *lines]).replace("case2", "case1")  # no name of one study alone
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8")
    assert list(excel_to_captions(options).full.case_id) == ["A0", "A1", "A2"]


def test_a_sheet_needs_no_patients_where_the_images_know_them(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["检查号", "检查所见"])
    book.active.append(["a1", "右肺结节。"])
    book.active.append(["A2", "右肺结节。"])
    book.active.append(["A3", "左肺结节。"])
    book.save(tmp_path / "a.xlsx")
    lines = ["A1,c1.nii.gz,p1", "A2,c2.nii.gz,p2", "A3,c3.nii.gz,p3"]
    csv = pairs(tmp_path, *lines, header="accession,image_path,patient_id")
    options = ExcelOptions(excel=tmp_path / "a.xlsx", pairs_csv=csv)
    result = excel_to_captions(options)
    assert list(result.full.patient_id) == ["p2", "p3"]
    assert "patients from the images" in result.notes[0]
    # Capital letters are not guessed at, but said.
    assert "no image has this id; A1 differs only in capital letters" in set(result.rejected.reason)
    csv = pairs(tmp_path, *(line.rpartition(",")[0] for line in lines))
    with pytest.raises(DataError, match="no column of the patient"):
        excel_to_captions(options)
