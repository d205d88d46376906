"""Sheets of reports: which of a workbook's sheets are lists, and what their columns are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ctscribe.errors import DataError
from ctscribe.tables.ids import cell_text
from ctscribe.tables.text import HEADING
from ctscribe.tables.workbook import Fault, Grid, cell_name, read_workbook

# Kinds of id: the names within one mean the same, so two sheets may use different ones; two kinds
# are never compared with each other. Small letters and without spaces; earlier ones are preferred.
ID_KINDS: tuple[tuple[str, ...], ...] = (
    (
        *("accession", "accessionnumber", "accession_number", "accessionno"),
        *("检查号", "检查编号", "检查单号", "检查流水号", "影像检查号"),
    ),
    ("影像号", "影像编号", "放射编号", "放射号", "ct号"),
    ("登记号",),
    ("case_id", "id"),
)
ID_NAMES = tuple(name for kind in ID_KINDS for name in kind)
PATIENT_KINDS: tuple[tuple[str, ...], ...] = (
    ("patient_id", "patientid", "患者id", "病人id", "患者编号", "病人编号"),
    ("病历号", "病案号"),
    ("住院号",),
    ("门诊号",),
    ("姓名", "患者姓名", "病人姓名", "patient_name"),
)
NAME_NAMES = PATIENT_KINDS[-1]
QUESTION_NAMES = ("question", "问题")
DATE_NAMES = ("检查日期", "检查时间", "报告日期", "报告时间", "studydate", "study_date", "日期")
# Section in a report: its Chinese and English heading, and the columns that hold it.
SECTIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "所见",
        "Findings",
        (
            *("所见", "影像所见", "检查所见", "ct所见", "影像表现", "检查表现", "影像描述"),
            *(
                "影像学所见",
                "影像学表现",
                "放射学所见",
                "放射学表现",
                "报告所见",
                "检查描述",
                "findings",
            ),
        ),
    ),
    (
        "结论",
        "Impression",
        (
            *("结论", "影像结论", "检查结论", "诊断", "影像诊断", "诊断意见", "诊断结论"),
            *("影像学诊断", "影像学结论", "放射学诊断", "放射诊断", "报告结论", "诊断印象"),
            *("检查诊断", "印象", "impression", "conclusion"),
        ),
    ),
    ("建议", "Recommendation", ("建议", "处理建议", "recommendation", "recommendations")),
    (
        "病理倾向",
        "Pathology tendency",
        ("病理倾向", "病理考虑", "pathologytendency", "pathology_tendency"),
    ),
)
WHOLE = ("报告", "报告内容", "报告全文", "检查报告", "report", "answer")
_SECTION_NAMES = tuple(name for *_, names in SECTIONS for name in names)
_REPORT_NAMES = _SECTION_NAMES + WHOLE
_KNOWN = {
    *(ID_NAMES + QUESTION_NAMES + DATE_NAMES + _REPORT_NAMES),
    *(name for kind in PATIENT_KINDS for name in kind),
}
_HEADER_WITHIN = 10  # rows in which the line of names is looked for, below a title


@dataclass(frozen=True)
class SheetRow:
    """A row below the line of names: its number in Excel, and its cells by column."""

    number: int
    cells: Mapping[str, Any]
    hidden: bool = False


@dataclass(frozen=True)
class Sheet:
    """A list: the rows below its line of names.

    id_column, patient_column: chosen for the whole workbook; a sheet may lack the patients.
    merges: ranges whose value was filled in. hidden_columns: left out. hidden: the sheet itself.
    """

    path: Path
    title: str
    columns: tuple[str, ...]
    rows: tuple[SheetRow, ...]
    merges: tuple[str, ...] = ()
    hidden_columns: tuple[str, ...] = ()
    hidden: bool = False
    id_column: str = ""
    patient_column: str = ""

    def column(self, names: Iterable[str]) -> str | None:
        """The column that bears the first of these names that there is, or None."""
        return find_column(self.columns, names)

    @property
    def report_columns(self) -> tuple[str, ...]:
        """The columns that `sections_of` reads."""
        parts = tuple(column for column in self.columns if _plain(column) in _SECTION_NAMES)
        whole = self.column(WHOLE)
        return parts or ((whole,) if whole else ())

    @property
    def patient_is_name(self) -> bool:
        """Patients are told apart by their names, which are never handed on."""
        return find_column([self.patient_column], NAME_NAMES) is not None


@dataclass(frozen=True)
class Book:
    """The sheets that are lists, and why the others (title, reason) are not used.

    apart: lists that are not used, since their ids are of another kind, and why.
    """

    sheets: tuple[Sheet, ...]
    unused: tuple[tuple[str, str], ...]
    apart: tuple[tuple[Sheet, str], ...]


def find_column(columns: Sequence[str], names: Iterable[str]) -> str | None:
    """The first of `names` among `columns`, whatever the case and the spaces."""
    plain = {_plain(column): column for column in reversed(columns)}
    return next((plain[_plain(name)] for name in names if _plain(name) in plain), None)


def read_book(
    path: Path,
    *,
    sheet_index: int | None = None,
    include_hidden: bool = False,
    id_name: str | None = None,
    like_id: str | None = None,
    patient_name: str | None = None,
    needs_patients: bool = True,
) -> Book:
    """The lists of a workbook: every sheet with a line of names, or the one of `sheet_index`.

    id_name, patient_name: what the user calls them, in place of the usual names. like_id: the other
    table's name of the id, which comes first. The kind of id and of patient is one for all sheets,
    that which most of them have: a 检查号 is never compared with a 登记号.
    Raises DataError: what `read_workbook` does; no such sheet; no list in any; no column of
    patients (if `needs_patients`, or one is named).
    """
    grids = read_workbook(path)
    if not grids:
        raise DataError(
            "there is no worksheet in it",
            file=path,
            fix="put the list in a sheet of cells",
            code="unreadable",
        )
    if sheet_index is not None:
        if not 0 <= sheet_index < len(grids):
            titles = ", ".join(f"{i} {grid.title}" for i, grid in enumerate(grids))
            raise DataError(
                f"there is no sheet {sheet_index}, only {titles}",
                file=path,
                fix="give --sheet-index",
                code="bad-table",
            )
        grids = [grids[sheet_index]]
    sheets: list[Sheet] = []
    unused: list[tuple[str, str]] = []
    apart: list[tuple[Sheet, str]] = []
    first: DataError | None = None
    for grid in grids:
        if grid.hidden and sheet_index is None and not include_hidden:
            unused.append((grid.title, "it is hidden; --include-hidden reads it"))
            continue
        try:
            sheets.append(_sheet(grid, path, include_hidden))
        except DataError as error:
            first = first or error
            unused.append((grid.title, error.reason.removeprefix(f"sheet {grid.title} ")))
    if not sheets:
        raise first or DataError(
            f"its sheets are all hidden ({', '.join(grid.title for grid in grids)})",
            file=path,
            fix="show them in Excel, or pass --include-hidden",
            code="bad-table",
        )
    kind = (id_name,) if id_name else _most(sheets, ID_KINDS)
    if like_id and not id_name:
        like = next((k for k in ID_KINDS if _plain(like_id) in k), (like_id,))
        kind = like if any(sheet.column(like) for sheet in sheets) else kind
    with_id = [
        replace(sheet, id_column=column) for sheet in sheets if (column := sheet.column(kind))
    ]
    if not with_id:
        raise _no_column(sheets[0], id_name, "id", "--excel-id-col")
    for sheet in sheets:
        if not sheet.column(kind):
            other, wanted = sheet.column(ID_NAMES), with_id[0].id_column
            what = f"its ids are {other}, not {wanted}" if other else f"it has no column {wanted}"
            apart.append((sheet, f"{what}; if they are the same, rename the column to {wanted}"))
    names = (patient_name,) if patient_name else _most(with_id, PATIENT_KINDS)
    needed = needs_patients or patient_name is not None
    if needed and not any(sheet.column(names) for sheet in with_id):
        raise _no_column(with_id[0], patient_name, "patient", "--patient-id-col")
    lists = [replace(sheet, patient_column=sheet.column(names) or "") for sheet in with_id]
    return Book(tuple(lists), tuple(unused), tuple(apart))


def sections_of(sheet: Sheet, cells: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What a row says: heading and text of each section that is filled; "" is the whole report.

    The whole report is only taken from sheets that have no column of a section.
    """
    parts: dict[str, tuple[str, str]] = {}
    for chinese, english, names in SECTIONS:
        columns = [column for column in sheet.columns if _plain(column) in names]
        bodies: list[str] = []
        for column in columns:
            text = cell_text(cells[column])
            body = HEADING.sub("", text, count=1) if HEADING.match(text) else ""
            body = body or text
            if body and body not in bodies:  # 结论 and 诊断 often say the same
                bodies.append(body)
        if bodies:
            heading = f"{english}: " if columns[0].isascii() else f"{chinese}："
            parts[chinese] = (heading, "\n".join(bodies))
    whole = sheet.column(WHOLE)
    if not parts and whole is not None and (text := cell_text(cells[whole])):
        parts[""] = ("", text)
    return parts


def report_text(parts: Mapping[str, tuple[str, str]]) -> str:
    """The report: its sections under their headings, in the order of a report.

    A whole report of another sheet stands first; sections that it holds already are not repeated.
    """
    _, whole = parts.get("", ("", ""))
    sections = [parts[name] for name, *_ in SECTIONS if name in parts]
    texts = [heading + body for heading, body in sections if body not in whole]
    return "\n".join([whole] * bool(whole) + texts)


def faults_of(sheet: Sheet, cells: Mapping[str, Any]) -> list[tuple[str, Fault]]:
    """Columns of a report, a question or a patient whose cell cannot be used."""
    used = {*_REPORT_NAMES, *QUESTION_NAMES, _plain(sheet.patient_column)}
    return [
        (column, cell)
        for column, cell in cells.items()
        if isinstance(cell, Fault) and _plain(column) in used
    ]


def _most(sheets: Sequence[Sheet], kinds: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The kind that most sheets have a column of; the first of equals."""
    return max(kinds, key=lambda kind: sum(sheet.column(kind) is not None for sheet in sheets))


def _sheet(grid: Grid, path: Path, include_hidden: bool) -> Sheet:
    """Raises DataError if it has no line of names, or a name stands there twice."""
    columns_hidden = frozenset() if include_hidden else grid.hidden_columns
    top, names = _names(grid, path, columns_hidden)
    hidden = [
        text
        for column in sorted(columns_hidden)
        if (text := _name_at(grid, top, column)) and _plain(text) in _KNOWN
    ]
    shown = [name for name in dict.fromkeys(names.values())]
    rows = []
    for number, cells in grid.rows:
        if number <= top:
            continue
        values: dict[str, Any] = dict.fromkeys(shown)
        for column, name in names.items():
            cell = cells[column - 1] if column <= len(cells) else None
            values[name] = _joined(values[name], cell)
        if any(isinstance(v, Fault) or cell_text(v) for v in values.values()):
            is_hidden = number in grid.hidden_rows and not include_hidden
            rows.append(SheetRow(number, values, is_hidden))
    return Sheet(
        path, grid.title, tuple(shown), tuple(rows), grid.merges, tuple(hidden), grid.hidden
    )


def _names(grid: Grid, path: Path, hidden: frozenset[int]) -> tuple[int, dict[int, str]]:
    """The line of names: its row, and the name of each column that has one.

    It is the row of most known names among the first; of names in two rows the lower, which fills
    in what is merged downwards. A name merged over several columns is the name of each.
    """
    best: tuple[int, int, dict[int, str]] = (0, 0, {})
    for number, cells in grid.rows[:_HEADER_WITHIN]:
        names: dict[int, str] = {}
        for column, cell in enumerate(cells, 1):
            if (text := cell_text(cell).replace("\n", "")) and column not in hidden:
                for below in range(column, grid.spans.get((number, column), column) + 1):
                    names.setdefault(below, text)
        known = len({_plain(name) for name in names.values()} & _KNOWN)
        if known > best[1] and find_column(list(names.values()), _KNOWN - set(ID_NAMES)):
            best = (number, known, names)
    top, _, names = best
    title = grid.title
    if not top or find_column(list(names.values()), _REPORT_NAMES) is None:
        listing = find_column(list(names.values()), ID_NAMES) is not None
        if not (top and listing):  # a list of ids and patients may complete another sheet
            first = next((cells for _, cells in grid.rows), ())
            seen = ", ".join(text for cell in first if (text := cell_text(cell))) or "nothing"
            out_of_sight = f"; columns {_letters(hidden)} are hidden" if hidden else ""
            raise DataError(
                f"sheet {title} has no column of report text, only {seen[:200]}{out_of_sight}",
                file=path,
                fix="name the columns 所见, 结论, 建议, 病理倾向, or 报告; or give --sheet-index"
                + ("; --include-hidden reads hidden columns" if hidden else ""),
                code="bad-table",
            )
    for name in set(names.values()):
        at = [column for column, other in names.items() if other == name]
        if len(at) > 1 and grid.spans.get((top, at[0]), 0) < at[-1]:
            raise DataError(
                f"sheet {title} has the column {name} twice",
                file=path,
                fix="rename one of them",
                code="bad-table",
            )
    return top, names


def _name_at(grid: Grid, top: int, column: int) -> str:
    cells = next((cells for number, cells in grid.rows if number == top), ())
    return cell_text(cells[column - 1]) if column <= len(cells) else ""


def _joined(one: Any, two: Any) -> Any:
    """The cells of one name that is merged over two columns."""
    if one is None or two is None or isinstance(one, Fault):
        return two if one is None else one
    return two if isinstance(two, Fault) else f"{cell_text(one)}\n{cell_text(two)}"


def _no_column(sheet: Sheet, name: str | None, what: str, flag: str) -> DataError:
    missing = f"no column {name}" if name else f"no column of the {what}"
    hidden = f"; hidden: {', '.join(sheet.hidden_columns)}" if sheet.hidden_columns else ""
    return DataError(
        f"sheet {sheet.title} has {missing}, only {', '.join(sheet.columns)}{hidden}",
        file=sheet.path,
        fix=f"name one of them with {flag}" + (", or pass --include-hidden" if hidden else ""),
        code="bad-table",
    )


def _letters(columns: Iterable[int]) -> str:
    return ", ".join(cell_name(1, column)[:-1] for column in sorted(columns)[:5])


@lru_cache(4096)  # asked of every row's columns
def _plain(name: str) -> str:
    return "".join(name.lower().split())
