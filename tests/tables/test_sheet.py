"""Which sheets of a workbook are lists, and what their rows say together."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from ctscribe.errors import DataError
from ctscribe.tables.csv_file import read_table
from ctscribe.tables.examine import examine_workbook
from ctscribe.tables.excel import ExcelOptions, ExcelResult, excel_to_captions, run_excel
from ctscribe.tables.sheet import Sheet, faults_of, read_book, report_text, sections_of

NAMES = ("检查号", "患者ID", "所见", "结论")


def book(
    folder: Path,
    sheets: dict[str, Sequence[Sequence[Any]]],
    change: Callable[[Any], None] | None = None,
) -> Path:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for title, rows in sheets.items():
        sheet = made.create_sheet(title)
        for row in rows:
            sheet.append(list(row))
    if change:
        change(made)
    file = folder / "总表.xlsx"
    made.save(file)
    return file


def converted(folder: Path, file: Path, ids: Sequence[str], **options: Any) -> ExcelResult:
    lines = ["检查号,路径"]
    for id_ in ids:
        (folder / f"{id_}.nii.gz").write_bytes(b"x")
        lines.append(f"{id_},{id_}.nii.gz")
    (folder / "pairs.csv").write_text("\n".join(lines), encoding="utf-8")
    options = {"excel": file, "pairs_csv": folder / "pairs.csv", "val_ratio": 0.0, **options}
    return excel_to_captions(ExcelOptions(**options))


def answers(result: ExcelResult) -> dict[str, str]:
    return dict(zip(result.full["case_id"], result.full["answer"], strict=True))


def reasons(result: ExcelResult) -> dict[str, str]:
    frame = result.rejected
    places = [f"{s}!{r}" if s else r for s, r in zip(frame["sheet"], frame["row"], strict=True)]
    return dict(zip(places, frame["reason"], strict=True))


MONTHS: dict[str, Sequence[Sequence[Any]]] = {
    "图例": [["颜色", "含义"], ["红", "急诊"]],
    "1月": [NAMES, ["A1", "P1", "右肺结节。", "肺结节。"]],
    "2月": [
        ["2月报告总表"],
        ["Accession", "病人ID", "影像所见", "诊断"],
        ["A2", "P2", "左肺实变。", "肺炎。"],
    ],
    "汇总": [["检查号", "张数"], ["A1", 300]],
}


def test_every_list_is_read_and_what_is_none_is_named(tmp_path: Path) -> None:
    file = book(tmp_path, MONTHS)
    result = converted(tmp_path, file, ["A1", "A2"])
    assert answers(result) == {
        "A1": "所见：右肺结节。\n结论：肺结节。",
        "A2": "所见：左肺实变。\n结论：肺炎。",
    }
    told = "\n".join(result.notes)
    assert "sheet 图例 is not used: has no column of report text, only 颜色, 含义" in told
    assert "sheet 汇总 is not used: has no column of report text" in told
    assert "2月: ids from Accession, patients from 病人ID, reports from 影像所见, 诊断; " in told
    assert list(result.join["status"]) == ["matched"] * 4
    assert list(result.join["partner"]) == ["row 2", "row 3", "1月!2", "2月!3"]
    one = converted(tmp_path, file, ["A1", "A2"], sheet_index=1)
    assert list(answers(one)) == ["A1"]
    with pytest.raises(DataError, match="no column of report text"):
        converted(tmp_path, file, ["A1"], sheet_index=0)


def test_ids_of_two_kinds_are_never_compared(tmp_path: Path) -> None:
    """登记号 1 and 检查号 1 are two studies: the conclusion must not go to the other's findings."""
    sheets = {
        "1月": [NAMES, ["1", "P1", "右肺结节。", None]],
        "2月": [NAMES, ["2", "P2", "好。", None]],
        "登记": [["登记号", "患者ID", "结论"], ["1", "P1", "肺癌。"]],
    }
    result = converted(tmp_path, book(tmp_path, sheets), ["1", "2"])
    assert answers(result)["1"] == "所见：右肺结节。"
    told = "登记 is not used: its ids are 登记号, not 检查号; if they are the same, rename"
    assert any(told in note for note in result.notes)
    assert reasons(result)["登记!2"].startswith("the sheet is not used: its ids are 登记号")
    (answer,) = result.rejected["answer"][result.rejected["sheet"] == "登记"]
    assert answer == "结论：肺癌。"


def test_sheets_complete_each_other_or_are_quarantined(tmp_path: Path) -> None:
    sheets = {
        "所见": [
            ["检查号", "患者ID", "所见"],
            *(["A1", "P1", "右肺结节。"], ["A2", "P2", "左肺结节。"], ["A3", "P3", "好。"]),
            *(["A4", "P4", "右肺实变。"], ["A5", "P5", "两肺清晰。"]),
        ],
        "结论": [
            ["检查号", "结论", "检查日期", "所见"],
            *(["A1", "肺结节。", None, None], ["A2", "肺癌。", 45294, "左肺上叶结节。"]),
            *(["A3", None, None, None], ["A5", "=1", None, None], ["A6", "孤。", None, None]),
        ],
    }
    result = converted(tmp_path, book(tmp_path, sheets), [f"A{i}" for i in range(1, 7)])
    assert answers(result) == {
        "A1": "所见：右肺结节。\n结论：肺结节。",
        "A3": "所见：好。",
        "A4": "所见：右肺实变。",
    }
    assert reasons(result) == {
        "所见!3": "所见!3, 结论!3 give id A2 different reports or patients",
        "所见!6": "结论!5, of the same id, cannot be read",
        "结论!3": "所见!3, 结论!3 give id A2 different reports or patients",
        "结论!4": "it adds nothing to 所见!4",
        "结论!5": "column 结论: cell B5 is a formula without a stored value: open the workbook in "
        "Excel and save it",
        "结论!6": "there is no id of its patient",
        "3": "its report: 所见!3, 结论!3 give id A2 different reports or patients",
        "6": "its report: 结论!5, of the same id, cannot be read",
        "7": "its report: there is no id of its patient",
    }
    codes = dict(zip(result.rejected["reason"], result.rejected["code"], strict=True))
    assert codes["结论!5, of the same id, cannot be read"] == "no-formula-value"
    assert codes["there is no id of its patient"] == "bad-id"
    (conflict,) = result.quarantine.to_dict("records")
    assert conflict == {
        "id": "A2",
        "column": "所见",
        "one_at": "所见!3",
        "one_date": "",
        "one": "左肺结节。",
        "two_at": "结论!3",
        "two_date": "2024-01-03",
        "two": "左肺上叶结节。",
        "difference": "左肺[ → 上叶]结节。",
    }
    assert result.matched == (4, 3)  # the row that completes another is in the caption table too
    assert len(result.join) == 10 + 6
    assert len(result.rejected) == 16 - sum(result.matched)


def test_a_whole_report_and_a_section_of_another_sheet_are_both_kept(tmp_path: Path) -> None:
    sheets = {
        "报告": [
            ["检查号", "患者ID", "报告"],
            ["A1", "P1", "右肺结节。考虑炎症。"],
            ["A2", "P2", "好。"],
        ],
        "病理": [["检查号", "病理倾向", "结论"], ["A1", "腺癌。", "考虑炎症。"]],
    }
    result = converted(tmp_path, book(tmp_path, sheets), ["A1"])
    assert answers(result)["A1"] == "右肺结节。考虑炎症。\n病理倾向：腺癌。"


def test_merged_cells_count_for_their_rows(tmp_path: Path) -> None:
    """One patient over three studies, a study over two rows, names in two rows below a title."""

    def change(made: Any) -> None:
        sheet = made.worksheets[0]
        for merge in ("A1:D1", "A2:A3", "B2:B3", "C2:D2", "B4:B6", "A5:A6"):
            sheet.merge_cells(merge)

    rows = [
        ["2024年胸部CT"],
        ["患者ID", "检查号", "报告", None],
        [None, None, "所见", "结论"],
        ["P1", "A1", "右肺结节。", None],
        ["P1", None, None, "肺结节。"],
        [None, "A2", "好。", None],
    ]
    # The study's id stands in B4 alone, merged down to B6: A2 in B6 is hidden by the merge.
    result = converted(tmp_path, book(tmp_path, {"表": rows[:5]}, change), ["A1"])
    assert answers(result) == {"A1": "所见：右肺结节。\n结论：肺结节。"}
    assert any("merged cells B4:B6" in note for note in result.notes)

    def patients(made: Any) -> None:
        made.worksheets[0].merge_cells("A2:A4")

    rows = [
        ["患者ID", "检查号", "所见"],
        ["P1", "A1", "一"],
        [None, "A2", "二"],
        [None, "A3", "三"],
    ]
    result = converted(tmp_path, book(tmp_path, {"表": rows}, patients), ["A1", "A2", "A3"])
    assert list(result.full["patient_id"]) == ["P1"] * 3
    assert not result.rejected.size


def test_hidden_sheets_rows_and_columns_are_left_out_and_told(tmp_path: Path) -> None:
    def change(made: Any) -> None:
        made["旧"].sheet_state = "veryHidden"
        made["表"].row_dimensions[3].hidden = True
        made["表"].row_dimensions[4].hidden = True
        made["表"].column_dimensions["D"].hidden = True

    # The hidden row of A1 is the older report: it is no contradiction to the one that is shown.
    old = ["A1", "P1", "旧的。", ""]
    rows = [NAMES, ["A1", "P1", "好。", "旧结论。"], ["A2", "P2", "差。", ""], old]
    file = book(tmp_path, {"表": rows, "旧": [NAMES, ["A3", "P3", "藏。", ""]]}, change)
    result = converted(tmp_path, file, ["A1", "A2", "A3"])
    assert answers(result) == {"A1": "所见：好。"}
    assert reasons(result) == {
        "表!3": "the row is hidden or filtered out in Excel; --include-hidden reads it",
        "表!4": "the row is hidden or filtered out in Excel; --include-hidden reads it",
        "3": "its report: the row is hidden or filtered out in Excel; --include-hidden reads it",
        "4": "no report has this id",
    }
    told = "\n".join(result.notes)
    assert "表: hidden columns are left out: 结论" in told
    assert "表: 2 hidden or filtered rows are left out" in told
    assert "旧 is not used: it is hidden" in told
    result = converted(tmp_path, file, ["A1", "A2", "A3"], include_hidden=True)
    assert set(answers(result)) == {"A2", "A3"}
    assert list(result.quarantine["id"]) == ["A1"]

    def all_hidden(made: Any) -> None:
        made["表"].column_dimensions["A"].hidden = True

    with pytest.raises(DataError, match=r"hidden: 检查号.*--include-hidden"):
        converted(tmp_path, book(tmp_path, {"表": rows}, all_hidden), ["A1"])


def test_zeros_that_excel_took_come_back_only_where_one_id_can_be_meant(tmp_path: Path) -> None:
    rows = [NAMES, [123, "P1", "一。", ""], [45, "P2", "二。", ""], [67, "P3", "三。", ""]]
    images = ["000123", "0045", "045", "67", "067"]
    result = converted(tmp_path, book(tmp_path, {"表": rows}), images)
    assert list(result.full["case_id"]) == ["000123"]
    assert any("id 123 taken for 000123: zeros were lost" in note for note in result.notes)
    told = reasons(result)
    assert told["表!3"].startswith("id 45 may have lost zeros: the images have 0045 and 045")
    # 67 itself is there, but Excel may have made it of 067.
    assert told["表!4"].startswith("id 67 may have lost zeros: the images have 067 and 67")
    folder = tmp_path / "ct"
    folder.mkdir()
    (folder / "000123_0000.nii.gz").write_bytes(b"x")
    by_name = excel_to_captions(
        ExcelOptions(excel=tmp_path / "总表.xlsx", image_root=folder, val_ratio=0.0)
    )
    assert list(by_name.full["case_id"]) == ["000123"]


def test_a_patient_whose_zeros_one_sheet_lost_is_one(tmp_path: Path) -> None:
    sheets = {
        "1月": [NAMES, *([f"A{i}", p, f"L{i}。", ""] for i, p in enumerate(("0012", "7", "05")))],
        "2月": [NAMES, *([f"B{i}", p, f"L{i}。", ""] for i, p in enumerate((12, 7, 5, 9)))],
        "3月": [NAMES, ["C0", "005", "三。", ""]],
    }
    file = book(tmp_path, sheets)
    result = converted(tmp_path, file, ["A0", "A1", "A2", "B0", "B1", "B2", "B3", "C0"])
    patients = dict(zip(result.full["case_id"], result.full["patient_id"], strict=True))
    assert patients == {
        **{"A0": "0012", "B0": "0012", "A1": "7", "B1": "7", "A2": "05", "B3": "9", "C0": "005"},
    }
    reason = "its patient 5 may have lost zeros: others are 005 and 05"
    assert reasons(result)["2月!4"] == reason
    assert "excel 2月!2: its patient is 0012: zeros were lost" in result.notes
    told = {(p.code, p.detail) for p in examine_workbook(file)}
    assert told == {
        ("repaired", "2月!2: zeros of its patient's id were lost"),
        ("bad-id", f"2月!4: {reason}"),
    }


def test_a_name_is_one_patient_however_it_is_spaced(tmp_path: Path) -> None:
    names = ("张三", "张\u3000三", "张 三", "LI Si", "Ｌi si")
    rows = [["检查号", "姓名", "所见"], *([f"A{i}", name, "好。"] for i, name in enumerate(names))]
    result = converted(tmp_path, book(tmp_path, {"表": rows}), [f"A{i}" for i in range(5)])
    zhang, also, again, li, too = result.full["patient_id"]
    assert zhang == also == again != li == too
    assert not set("".join(names)) & set(zhang + li) - set("pLi")


def test_an_image_whose_name_and_folder_are_two_ids_is_used_for_neither(tmp_path: Path) -> None:
    rows = [NAMES, *([n, f"P{n}", "好。", ""] for n in ("1", "5", "007", "9", "009", "44"))]
    file = book(tmp_path, {"表": rows})
    for name in ("1/1.nii.gz", "5/1.nii.gz", "7/scan.nii.gz", "009/9.nii.gz", "44/44.nii.gz"):
        (tmp_path / "ct" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ct" / name).write_bytes(b"x" * (name != "44/44.nii.gz"))
    (tmp_path / "ct" / "7" / "007.nii.gz").mkdir()  # a folder is no image, whatever its name
    options = ExcelOptions(excel=file, image_root=tmp_path / "ct", val_ratio=0.0)
    result = excel_to_captions(options)
    images = dict(zip(result.full["case_id"], map(Path, result.full["image_path"]), strict=True))
    ct = tmp_path / "ct"
    assert images == {"1": ct / "1" / "1.nii.gz", "007": ct / "7" / "scan.nii.gz"}
    assert reasons(result) == {
        "表!3": "no image has this id",
        "5/1.nii.gz": "its name and its folder are two ids: 1 and 5",
        **{"表!5": "no image has this id", "表!6": "no image has this id"},
        "009/9.nii.gz": "its name and its folder are two ids: 009 and 9",
        "表!7": "its image: the image file is empty",
        "44/44.nii.gz": "the image file is empty",
    }


def test_one_image_at_two_ids_is_used_for_neither(tmp_path: Path) -> None:
    file = book(tmp_path, {"表": [NAMES, *([f"A{i}", f"P{i}", f"L{i}。", ""] for i in range(4))]})
    (tmp_path / "x.nii.gz").write_bytes(b"x")
    (tmp_path / "y.nii.gz").write_bytes(b"x")
    (tmp_path / "in").mkdir()
    lines = ("id,path", "A0,x.nii.gz", "A1,in/../x.nii.gz", "A2,y.nii.gz", "A3, ")
    lines += ("1.23E+15,z.nii.gz",)
    (tmp_path / "p.csv").write_text("\n".join(lines))
    options = ExcelOptions(excel=file, pairs_csv=tmp_path / "p.csv", val_ratio=0.0)
    result = excel_to_captions(options)
    assert list(result.full["case_id"]) == ["A2"]
    assert reasons(result)["2"] == "one image stands at ids A0, A1"
    assert reasons(result)["5"] == "path is empty"
    assert reasons(result)["6"] == "the id 1.23E+15 has lost digits in Excel"


def test_all_tables_are_written_and_the_sums_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [NAMES, *([f"A{i}", f"P{i}", f"L{i}。", ""] for i in range(4)), ["A0", "P0", "不。", ""]]
    file = book(tmp_path, {"表": rows})
    converted(tmp_path, file, ["A0", "A1", "A2", "B1"])
    run_excel(ExcelOptions(excel=file, pairs_csv=tmp_path / "pairs.csv", out_dir=tmp_path / "o"))
    shown = capsys.readouterr().out
    assert "excel: 5 rows = 2 matched + rejected (2 conflict, 1 unmatched)" in shown
    assert "images: 4 rows = 2 matched + rejected (1 unmatched, 1 unusable)" in shown
    sizes = {f.name: len(read_table(f)) for f in (tmp_path / "o").iterdir()}
    assert sizes == {
        "caption_full.csv": 2,
        "caption_train.csv": 1,
        "caption_val.csv": 1,
        "caption_rejected.csv": 5,
        "caption_quarantine.csv": 1,
        "caption_join_report.csv": 9,
    }


def test_examine_names_every_problem_with_its_place(tmp_path: Path) -> None:
    def change(made: Any) -> None:
        made["表"].merge_cells("B2:B3")
        made["表"].row_dimensions[4].hidden = True

    rows = [
        NAMES,
        *(["A1", "P1", "好。", ""], ["A2", None, "=1", ""], ["A3", "P3", "藏。", ""]),
        *(["1.23E+15", "P4", "四。", ""], ["A5", "P5", "五。", ""], ["A5", "P5", "六。", ""]),
        *(["A7", "P7", "", ""], ["A8", None, "八。", ""], ["A1", "P1", "好。", ""]),
        *(["Ａ９", "P9", "九。", ""], ["B1", "1.23E+15", "一。", ""]),
    ]
    file = book(tmp_path, {"表": rows, "图例": [["红"]]}, change)
    problems = [(p.code, p.case, p.detail.split(":")[0]) for p in examine_workbook(file)]
    assert sorted(problems) == sorted(
        [
            ("repaired", "", "图例"),
            ("repaired", "", "表!B2"),
            ("repaired", "A3", "表!4"),
            ("repaired", "A9", "表!11"),
            ("repaired", "A1", "表!10"),
            ("no-formula-value", "A2", "表!3"),
            ("bad-id", "", "表!5"),
            ("report-conflict", "A5", "表!6 and 表!7 give different 所见"),
            ("report-empty", "A7", "表!8"),
            ("bad-id", "A8", "表!9"),
            ("bad-id", "B1", "表!12"),
        ]
    )
    assert all(p.file == str(file) for p in examine_workbook(file))
    assert any(
        "column 患者ID: the id 1.23E+15 has lost digits" in p.detail for p in examine_workbook(file)
    )
    (tmp_path / "b.xlsx").write_bytes(b"no")
    (broken,) = examine_workbook(tmp_path / "b.xlsx")
    assert (broken.code, broken.severity) == ("unreadable", "error")
    sound = book(tmp_path, {"表": [NAMES, ["A1", "P1", "好。", "好。"]]})
    assert examine_workbook(sound) == []


def test_the_other_tables_name_of_the_id_comes_first(tmp_path: Path) -> None:
    rows = [["检查号", "登记号", "患者ID", "所见"], ["A1", "R1", "P1", "好。"]]
    file = book(tmp_path, {"表": rows})
    assert read_book(file).sheets[0].id_column == "检查号"
    assert read_book(file, like_id="登记号").sheets[0].id_column == "登记号"
    assert read_book(file, like_id="登记号", id_name="检查号").sheets[0].id_column == "检查号"
    assert read_book(file, like_id="序号").sheets[0].id_column == "检查号"


def test_a_patient_known_by_name_is_one_in_every_sheet(tmp_path: Path) -> None:
    names = ["检查号", "姓名", "所见", "结论"]
    sheets = {
        "1月": [names, ["A1", "张三", "好。", ""]],
        "2月": [names, ["A1", "张 三", "好。", ""]],
    }
    told = examine_workbook(book(tmp_path, sheets))
    assert [(p.code, p.case) for p in told] == [("repaired", "A1")]
    assert told[0].detail.startswith("2月!2")


def only(folder: Path, *rows: Sequence[Any]) -> Sheet:
    """The list that a workbook of one sheet is read as."""
    (sheet,) = read_book(book(folder, {"表": rows}), needs_patients=False).sheets
    return sheet


def reports(sheet: Sheet) -> list[str]:
    return [report_text(sections_of(sheet, row.cells)) for row in sheet.rows]


def test_a_hidden_sheet_that_is_asked_for_is_read(tmp_path: Path) -> None:
    def change(made: Any) -> None:
        made["旧"].sheet_state = "hidden"

    file = book(tmp_path, {title: [NAMES, [title, "P", "好。", ""]] for title in "新旧"}, change)
    assert [sheet.title for sheet in read_book(file, sheet_index=1).sheets] == ["旧"]
    for index in (-1, 2):
        with pytest.raises(DataError, match=f"no sheet {index}, only 0 新, 1 旧"):
            read_book(file, sheet_index=index)


def test_patients_of_two_kinds_are_never_compared(tmp_path: Path) -> None:
    ward = ["检查号", "住院号", "所见"]
    file = book(tmp_path, {"1月": [NAMES], "2月": [NAMES], "3月": [ward]})
    assert [sheet.patient_column for sheet in read_book(file).sheets] == ["患者ID", "患者ID", ""]
    with pytest.raises(DataError, match="has no column 床号"):
        read_book(file, patient_name="床号", needs_patients=False)


def test_the_report_is_of_its_columns_each_thing_said_once(tmp_path: Path) -> None:
    names = ("检查号", "报告", "所见", "结论", "诊断")
    row = ("A1", "全文。", "所见：右肺结节。", "肺结节。", "肺结节。")
    sheet = only(tmp_path, names, row, ("A2", "全文。", "", "", ""))
    # A report beside sections holds the same once more; it is taken where these are empty.
    assert reports(sheet) == ["所见：右肺结节。\n结论：肺结节。", "全文。"]
    sheet = only(tmp_path, ("id", "Findings", "Impression"), ("A1", "A nodule.", "Nodule."))
    assert reports(sheet) == ["Findings: A nodule.\nImpression: Nodule."]


def test_a_cell_that_cannot_be_read_counts_in_columns_that_are_used(tmp_path: Path) -> None:
    names = ("检查号", "患者ID", "问题", "所见", "备注")
    sheet = only(tmp_path, names, ("A1", "=1", "=1", "=1", "=1"), ("", "", "", "", "=1"))
    used = [[column for column, _ in faults_of(sheet, row.cells)] for row in sheet.rows]
    assert used == [["患者ID", "问题", "所见"], []]


def test_the_line_of_names_is_found_and_is_no_row(tmp_path: Path) -> None:
    titles = [["某医院"], ["检查号", "登记号", "id"], *[["2024"]] * 4]
    names = ("检查\n号", "检 查 号", "所见")
    sheet = only(tmp_path, *titles, names, ("A1", "9", "好。"), names, ("A2", "9", "差。"))
    assert [row.cells["检查号"] for row in sheet.rows] == ["A1", "检查\n号", "A2"]
    assert sheet.id_column == "检查号", "the first of two"
    assert [row.number for row in sheet.rows] == [8, 9, 10]
    with pytest.raises(DataError, match="has the column 所见 twice"):
        only(tmp_path, ("检查号", "所见", "所见"), ("A1", "好。", "差。"))


def test_a_list_of_ids_and_patients_completes_another(tmp_path: Path) -> None:
    sheets = {
        "报告": [["检查号", "所见"], ["A1", "好。"]],
        "患者": [["检查号", "患者ID"], ["A1", "P1"]],
    }
    result = converted(tmp_path, book(tmp_path, sheets), ["A1"])
    assert list(result.full["patient_id"]) == ["P1"]


def test_a_name_over_two_columns_is_of_both(tmp_path: Path) -> None:
    def change(made: Any) -> None:
        made["表"].merge_cells("B1:C1")

    rows = [
        *(["检查号", "所见", None], ["A1", "一。", "二。"], ["A2", None, "二。"]),
        *(["A3", "一。", None], ["A4", "一。", "=1"], ["A5", "=1", "二。"]),
    ]
    file = book(tmp_path, {"表": rows}, change)
    (sheet,) = read_book(file, needs_patients=False).sheets
    assert reports(sheet) == ["所见：一。\n二。", "所见：二。", "所见：一。", "", ""]
    assert [len(faults_of(sheet, row.cells)) for row in sheet.rows] == [0, 0, 0, 1, 1]
