"""Whatever a hospital does to its tables: no report gets another study's image, no row vanishes."""

import datetime
import tempfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctscribe.errors import DataError
from ctscribe.tables.excel import ExcelOptions, ExcelResult, excel_to_captions
from ctscribe.tables.ids import Id
from ctscribe.tables.join import Entry, complete_reports, difference, join, refuse_repeated_images

FAULTS = (
    *("none", "none", "none", "number", "full", "space", "lost", "missing", "twice", "other"),
    *("hidden", "split", "formula", "date"),
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[tuple[str, str, str]], list[tuple[str, str]], int]:
    """Reports (true id, fault of the report, fault of the image), their order, and a seed.

    Ids have one width, as a hospital's do, with zeros in front that may be lost.
    """
    numbers = draw(st.lists(st.integers(0, 999_999), unique=True, min_size=1, max_size=12))
    fault = st.sampled_from(FAULTS)
    rows = [
        (f"{n:06d}", draw(fault), draw(st.sampled_from(("none", "none", "missing", "lost", "two"))))
        for n in numbers
    ]
    lone = draw(st.lists(st.integers(0, 999_999), unique=True, max_size=3))
    return rows, [(f"{n:06d}", "lone") for n in lone if n not in numbers], draw(st.integers(0, 99))


def cells_of(id_: str, fault: str) -> list[list[Any]]:
    """Rows of a sheet for one study. What they say names the study they are of."""
    row = [id_, f"P{id_}", f"所见{id_}。", f"结论{id_}。"]
    if fault == "number":
        return [[int(id_), *row[1:]]]
    if fault == "full":
        return [["".join(chr(ord(c) + 0xFEE0) for c in id_), *row[1:]]]
    if fault == "space":
        return [[f"\u00a0{id_} ", *row[1:]]]
    if fault == "lost":
        return [["1.23E+15", *row[1:]]]
    if fault == "missing":
        return []
    if fault == "twice":
        return [row, row]
    if fault == "other":
        return [row, [*row[:2], f"所见{id_}，另一份。", row[3]]]
    if fault == "split":
        return [[*row[:3], None], [id_, None, None, row[3]]]
    if fault == "formula":
        return [[*row[:3], "=A1"]]
    if fault == "date":
        return [[datetime.date(2024, 1, 3), *row[1:]]]
    return [row]


def convert(
    folder: Path, rows: list[tuple[str, str, str]], lone: list[tuple[str, str]], seed: int
) -> tuple[ExcelResult, int, int]:
    book = openpyxl.Workbook()
    sheets = [book.active, book.create_sheet("二")]
    names = ("检查号", "患者ID", "所见", "结论")
    for sheet in sheets:
        sheet.append(list(names))
    count = 0
    for place, (id_, fault, _) in enumerate(rows):
        for part, cells in enumerate(cells_of(id_, fault)):
            sheet = sheets[(seed + place + part) % 2]
            sheet.append(cells)
            sheet.row_dimensions[sheet.max_row].hidden = fault == "hidden"
            count += 1
    book.save(folder / "a.xlsx")
    images = []
    for id_, _, image in rows:
        for copy in range({"missing": 0, "two": 2}.get(image, 1)):
            name = f"{id_}_{copy}.nii.gz"
            (folder / name).write_bytes(b"x")
            images.append(((id_.lstrip("0") or "0") if image == "lost" else id_, name))
    for id_, _ in lone:
        (folder / f"{id_}.nii.gz").write_bytes(b"x")
        images.append((id_, f"{id_}.nii.gz"))
    images = images[seed % 7 :] + images[: seed % 7]
    lines = ["accession,image_path", *(f"{id_},{name}" for id_, name in images)]
    (folder / "p.csv").write_text("\n".join(lines))
    options = ExcelOptions(
        excel=folder / "a.xlsx", pairs_csv=folder / "p.csv", val_ratio=0.0, patient_id_col="患者ID"
    )
    return excel_to_captions(options), count, len(images)


@given(tables())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_report_gets_another_image_and_nothing_vanishes(
    drawn: tuple[list[tuple[str, str, str]], list[tuple[str, str]], int],
) -> None:
    rows, lone, seed = drawn
    with tempfile.TemporaryDirectory() as folder:
        try:
            result, reports_in, images_in = convert(Path(folder), rows, lone, seed)
        except DataError as error:  # nothing at all matched
            assert error.code in ("unmatched", "bad-table")  # noqa: PT017
            return
    for row in result.full.to_dict("records"):
        id_ = Path(row["image_path"]).name[:6]
        assert row["patient_id"] == f"P{id_}"
        assert row["answer"] == f"所见：所见{id_}。\n结论：结论{id_}。"
        assert row["case_id"].zfill(6) == id_
    rejected = result.rejected["source"].value_counts()
    assert reports_in == result.matched[0] + rejected.get("excel", 0)
    assert images_in == result.matched[1] + rejected.get("images", 0)
    assert len(result.join) == reports_in + images_in
    assert len(result.full) == result.matched[1]
    assert all(result.rejected["reason"])
    good = {
        id_
        for id_, fault, image in rows
        if fault in ("none", "number", "full", "space", "twice", "split")
        and image in ("none", "lost")
    }
    assert {Path(p).name[:6] for p in result.full["image_path"]} == good
    conflicting = {id_ for id_, fault, _ in rows if fault == "other"}
    assert set(result.quarantine["id"]) == conflicting


def test_the_difference_of_two_texts() -> None:
    assert difference("左肺结节8mm。", "左肺结节9mm。") == "左肺结节[8 → 9]mm。"
    assert difference("a" * 20 + "x", "a" * 20) == "…aaaaaaaa[x → ]"
    assert difference("aa", "aaa") == "aa[ → a]"
    assert difference("", "好") == "[ → 好]"


@pytest.mark.parametrize("number", [False, True])
def test_equal_but_for_zeros_is_two_studies_unless_excel_may_have_made_one(number: bool) -> None:
    reports = [
        Entry("excel", "表", n, Id(text, is_number=number), parts={"所见": ("", text)})
        for n, text in enumerate(("0123", "123"))
    ]
    images = [
        Entry("images", "", n, Id(text), image=text, file=text)
        for n, text in enumerate(("123", "0123"))
    ]
    complete_reports(reports)
    refuse_repeated_images(images)
    pairs = join(reports, images)
    assert [(r.id.text, i.image) for r, i in pairs] == (
        [] if number else [("0123", "0123"), ("123", "123")]
    )
    assert all(e.status == ("twice" if number else "matched") for e in reports)


def entry(
    row: int, id_: str = "A1", patient: str = "P1", question: str = "", **parts: str
) -> Entry:
    said = {name: ("", text) for name, text in parts.items()}
    return Entry("excel", "表", row, Id(id_), patient, question=question, parts=said)


@pytest.mark.parametrize(
    ("one", "two", "column"),
    [
        (entry(2, 所见="好。"), entry(3, patient="P2", 结论="好。"), "patient"),
        (entry(2, question="甲?", 所见="好。"), entry(3, question="乙?", 结论="好。"), "question"),
        (entry(2, 所见="右肺上叶结节。"), entry(3, 所见="右肺上叶结节？"), "所见"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rows_of_one_id_must_agree_in_everything(one: Entry, two: Entry, column: str) -> None:
    (conflict,) = complete_reports([one, two])
    assert (conflict.id, conflict.column) == ("A1", column)
    assert one.status == two.status == "conflict"


def test_a_row_that_completes_another_shares_its_fate() -> None:
    """Neither counts as matched where the report they make has no image."""
    head, more = entry(2, patient="", 所见="好。"), entry(3, question="甲?", 结论="好。")
    assert complete_reports([head, more]) == []
    assert more.head is head
    assert (head.patient, head.question, set(head.parts)) == ("P1", "甲?", {"所见", "结论"})
    assert join([head, more], []) == []
    assert (head.status, more.status) == ("unmatched", "unmatched")
    assert more.reason == "with 表!2: no image has this id"


def joined(ours: list[str], theirs: list[str]) -> list[tuple[str, str]]:
    """Status and code of reports with these ids, as text, against images of those."""
    reports = [entry(row, id_, 所见=id_) for row, id_ in enumerate(ours)]
    images = [Entry("images", "", row, Id(id_), file=id_) for row, id_ in enumerate(theirs)]
    refuse_repeated_images(images)
    join(reports, images)
    return [(report.status, report.code) for report in reports]


def test_an_id_that_may_be_another_with_its_zeros_lost_is_used_for_neither() -> None:
    assert joined(["123"], ["0123"]) == [("matched", "")]
    assert joined(["123"], ["123", "0123"]) == [("twice", "bad-id")]
    assert joined(["123", "0123"], ["0123"]) == [("twice", "bad-id")] * 2
    assert joined(["123", "0123"], ["7"]) == [("unmatched", "unmatched")] * 2


def test_a_report_is_told_the_fault_of_its_image() -> None:
    report, image = entry(2), Entry("images", "", 2, Id("A1"))
    image.reject("the image is missing", code="missing")
    assert join([report], [image]) == []
    assert (report.code, report.reason) == ("missing", "its image: the image is missing")


def test_an_image_is_told_the_fault_of_a_report_whose_id_lost_zeros() -> None:
    report, image = entry(2, "123"), Entry("images", "", 2, Id("0123"))
    report.reject("no section is filled", code="report-empty")
    assert join([report], [image]) == []
    assert (image.code, image.reason) == ("report-empty", "its report: no section is filled")
