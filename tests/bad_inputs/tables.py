"""Bad inputs 22 to 25: tables, paths and reports."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl

from ctscribe.imaging.nifti import write_volume
from ctscribe.imaging.volume import Volume
from tests.bad_inputs.faults import variant

HEADER = ("case_id", "patient_id", "image_path", "question", "answer")
NODULE = "所见：右肺上叶见一实性结节，大小约8×6mm，边界清晰，余肺未见实变。结论：右肺上叶实性结节。"
EFFUSION = "所见：左侧胸腔见少量积液，左肺下叶膨胀不全，右肺清晰。结论：左侧少量胸腔积液。"
NORMAL = "所见：胸廓对称，双肺纹理清晰，未见实变及结节，胸腔未见积液。结论：胸部CT平扫未见异常。"
MEASURED = (
    "所见：右肺下叶背段见混合磨玻璃结节，大小约14×11mm，内见实性成分约5mm，边缘见短毛刺，邻近胸膜"
    "轻度牵拉；左肺上叶尖后段见一微小实性结节，直径约4mm。结论：右肺下叶混合磨玻璃结节，左肺上叶微小结节。"
)
Row = tuple[str, str, str, str, str]


def row(case: str, answer: str, image: str = "ct.nii.gz", patient: str = "") -> Row:
    return (case, patient or f"P-{case}", image, "", answer)


def table_text(rows: Sequence[Row]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([HEADER, *rows])
    return text.getvalue()


def write_csv(folder: Path, rows: Sequence[Row], encoding: str = "utf-8-sig") -> None:
    (folder / "reports.csv").write_bytes(table_text(rows).encode(encoding))


def two_images(folder: Path, ct: Volume) -> None:
    """Two CTs with voxels of their own."""
    write_volume(ct, folder / "ct.nii.gz")
    other = ct.array_zyx.copy()
    other[::2] += 1
    write_volume(Volume(other, ct.spacing_zyx_mm, ct.affine), folder / "ct2.nii.gz")


# ------------------------------------------------------------------------------- 22 CSV


@variant(22, "gbk", "encoding", "gbk", loads=True)
def _gbk(folder: Path, ct: Volume) -> None:
    write_volume(ct, folder / "ct.nii.gz")
    write_csv(folder, [row("A1", NODULE)], "gbk")


@variant(22, "gb18030", "encoding", "gb18030", loads=True)
def _gb18030(folder: Path, ct: Volume) -> None:
    write_volume(ct, folder / "ct.nii.gz")
    write_csv(folder, [row("A1", NODULE + "㐀䶮")], "gb18030")  # rare characters that gbk lacks


@variant(22, "mixed", "encoding-mixed", "line 3")
def _mixed(folder: Path, ct: Volume) -> None:
    two_images(folder, ct)
    lines = table_text([row("A1", NODULE), row("A2", EFFUSION, "ct2.nii.gz")]).splitlines(True)
    data = [lines[0].encode(), lines[1].encode("utf-8"), lines[2].encode("gbk")]
    (folder / "reports.csv").write_bytes(b"".join(data))


# ----------------------------------------------------------------------------- 23 Excel


def workbook(folder: Path, rows: Sequence[Sequence[Any]]) -> Any:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["检查号", "患者ID", "所见", "结论"])
    for cells in rows:
        sheet.append(list(cells))
    return book


TWO = [["CT000123", "P1", NODULE, "右肺上叶结节"], ["CT000124", "P2", EFFUSION, "左侧胸腔积液"]]


@variant(23, "scientific-id", "bad-id", "E[+]15|digits")
def _scientific(folder: Path, ct: Volume) -> None:
    rows = [["1.23E+15", "P1", NODULE, "右肺上叶结节"], *TWO[1:]]
    workbook(folder, rows).save(folder / "reports.xlsx")


@variant(23, "long-id", "bad-id", "digits")
def _long_id(folder: Path, ct: Volume) -> None:
    rows = [[12345678901234567890, "P1", NODULE, "右肺上叶结节"], *TWO[1:]]
    workbook(folder, rows).save(folder / "reports.xlsx")


@variant(23, "formula", "no-formula-value", "C2|formula")
def _formula(folder: Path, ct: Volume) -> None:
    rows = [["CT000123", "P1", '=CONCATENATE("右肺","结节")', "右肺上叶结节"], *TWO[1:]]
    workbook(folder, rows).save(folder / "reports.xlsx")


@variant(23, "merged", "repaired", "merge", loads=True)
def _merged(folder: Path, ct: Volume) -> None:
    book = workbook(folder, [TWO[0], ["CT000124", None, EFFUSION, "左侧胸腔积液"]])
    book.active.merge_cells("B2:B3")
    book.save(folder / "reports.xlsx")


@variant(23, "hidden", "repaired", "hidden", loads=True)
def _hidden(folder: Path, ct: Volume) -> None:
    book = workbook(folder, TWO)
    book.active.row_dimensions[3].hidden = True
    book.save(folder / "reports.xlsx")


@variant(23, "full-width", "repaired", "full-width|CT000123", loads=True)
def _full_width(folder: Path, ct: Volume) -> None:
    rows = [["ＣＴ０００１２３", "P1", NODULE, "右肺上叶结节"], *TWO[1:]]
    workbook(folder, rows).save(folder / "reports.xlsx")


@variant(23, "conflict", "report-conflict", "2, 3|2 and 3|different")
def _excel_conflict(folder: Path, ct: Volume) -> None:
    rows = [TWO[0], ["CT000123", "P1", EFFUSION, "左侧胸腔积液"]]
    workbook(folder, rows).save(folder / "reports.xlsx")


# ----------------------------------------------------------------------------- 24 paths


def long_folder(folder: Path) -> Path:
    """A folder below with a path of over 260 characters, each part short."""
    while len(str(folder)) < 290:
        folder = folder / "影像资料 第二批 chest CT 2024"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@variant(24, "chinese-and-space", "", "", loads=True)
def _chinese(folder: Path, ct: Volume) -> None:
    inside = folder / "患者 资料（胸部）"
    inside.mkdir()
    write_volume(ct, inside / "胸部 平扫 1.nii.gz")


@variant(24, "over-long", "", "", loads=True)
def _long(folder: Path, ct: Volume) -> None:
    write_volume(ct, long_folder(folder) / "胸部 CT.nii.gz")


@variant(24, "over-long-table", "", "", loads=True)
def _long_table(folder: Path, ct: Volume) -> None:
    deep = long_folder(folder)
    write_volume(ct, deep / "ct.nii.gz")
    write_csv(deep, [row("A1", NODULE)])


# --------------------------------------------------------------------------- 25 reports


@variant(25, "empty", "report-empty", "answer|empty")
def _report_empty(folder: Path, ct: Volume) -> None:
    write_volume(ct, folder / "ct.nii.gz")
    write_csv(folder, [row("A1", " ")])


@variant(25, "no-report", "report-empty", "nan")
def _no_report(folder: Path, ct: Volume) -> None:
    """What a program writes where a cell was empty."""
    write_volume(ct, folder / "ct.nii.gz")
    write_csv(folder, [row("A1", "nan")])


@variant(25, "duplicate", "report-duplicate", "A1|A2", loads=True)
def _report_duplicate(folder: Path, ct: Volume) -> None:
    two_images(folder, ct)
    write_csv(folder, [row("A1", MEASURED), row("A2", MEASURED, "ct2.nii.gz")])


@variant(25, "conflict", "report-conflict", "A1|rows")
def _report_conflict(folder: Path, ct: Volume) -> None:
    write_volume(ct, folder / "ct.nii.gz")
    write_csv(folder, [row("A1", NODULE), row("A1", EFFUSION)])


@variant(25, "personal", "personal-data", "phone|name", loads=True)
def _personal(folder: Path, ct: Volume) -> None:
    write_volume(ct, folder / "ct.nii.gz")
    write_csv(folder, [row("A1", "患者姓名：欧阳建国，联系电话：13912345678。" + NODULE)])


@variant(25, "damaged", "encoding-damage", "")
def _damaged(folder: Path, ct: Volume) -> None:
    write_volume(ct, folder / "ct.nii.gz")
    write_csv(folder, [row("A1", "锟斤拷锟斤拷右肺锟斤拷锟斤拷见一结节，大小约8mm。")])
