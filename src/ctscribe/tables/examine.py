"""What a look at a workbook finds, for `ctscribe check`."""

from __future__ import annotations

import secrets
from pathlib import Path

from ctscribe.errors import DataError
from ctscribe.problems import Problem, problem_of
from ctscribe.tables.entries import put_zeros_back, read_reports
from ctscribe.tables.join import Entry, complete_reports
from ctscribe.tables.manifest import LISTED
from ctscribe.tables.pseudonym import SALT_BYTES, Pseudonyms
from ctscribe.tables.sheet import read_book


def examine_workbook(path: str | Path, *, include_hidden: bool = False) -> list[Problem]:
    """Every problem of a workbook of reports, each with sheet!row or sheet!cell in its detail.

    Never raises for what the file holds: a workbook that cannot be read is one Problem. Whether
    images match is not looked at.
    """
    path = Path(path)
    try:
        book = read_book(path, include_hidden=include_hidden)
    except DataError as error:
        return [problem_of(error, case="", file=path)]
    problems: list[Problem] = []

    def found(code: str, detail: str, case: str = "") -> None:
        problems.append(Problem(case, str(path), code, detail))

    for title, reason in book.unused:
        found("repaired", f"{title}: the sheet is not used: {reason}")
    for apart, reason in book.apart:
        found("bad-table", f"{apart.title}: its {len(apart.rows)} rows are not used: {reason}")
    reports: list[Entry] = []
    # Names are only compared, here: the secret need not last.
    ids = Pseudonyms(secrets.token_bytes(SALT_BYTES))
    for sheet in book.sheets:
        for merge in sheet.merges[:LISTED]:
            found("repaired", f"{sheet.title}!{merge}: merged cells count for all their rows")
        if len(sheet.merges) > LISTED:
            found("repaired", f"{sheet.title}: {len(sheet.merges) - LISTED} more merged ranges")
        for column in sheet.hidden_columns:
            found("repaired", f"{sheet.title}: the hidden column {column} is left out")
        reports += read_reports(sheet, ids)
    for report in put_zeros_back(reports):
        found("repaired", f"{report.label}: zeros of its patient's id were lost", report.id.text)
    for report in reports:
        if report.status == "hidden":
            found("repaired", f"{report.label}: {report.reason}", report.id.text)
        elif report.id.note:
            found("repaired", f"{report.label}: id {report.id.note}", report.id.text)
    conflicts = complete_reports(reports)
    for conflict in conflicts:
        found(
            "report-conflict",
            f"{conflict.one.label} and {conflict.two.label} give different {conflict.column}",
            conflict.id,
        )
    for report in reports:
        if report.status == "repeated":
            found("repaired", f"{report.label}: {report.reason}", report.id.text)
        elif report.status == "unusable":
            found(report.code or "bad-table", f"{report.label}: {report.reason}", report.id.text)
        elif report.status == "matched" and report.head is None:
            if not report.parts:
                found("report-empty", f"{report.label}: no section is filled", report.id.text)
            if not report.patient:
                found("bad-id", f"{report.label}: there is no id of its patient", report.id.text)
    return problems
