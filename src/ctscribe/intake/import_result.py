"""What `import-dicom` found: as tables without anything that identifies, and before the user.

The user sees files by their names, to find them. Tables go with the data set, so they do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ctscribe.files import LONG_PREFIX
from ctscribe.imaging.dicom import LeftOut, Series
from ctscribe.imaging.dicom_choice import DIAGNOSTIC
from ctscribe.intake.study import Facts, scrub
from ctscribe.problems import KINDS, Problem
from ctscribe.tables.csv_file import read_table, write_table

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("case_id", "patient_id", "image_path", "question", "answer", "accession")
PROBLEM_COLUMNS = ("case_id", "verdict", "severity", "code", "detail", "fix", "zh")
CASES, PROBLEMS, IMAGES = "cases.csv", "problems.csv", "images"
LISTED = 3  # files of one reason that are named on the screen


@dataclass
class Study:
    """What became of one study. case: empty where no series was chosen.

    source: where it lies, for the user's eyes alone; problems too may name files.
    """

    series: list[Series]
    facts: list[Facts]
    source: str
    chosen: Series | None
    why: str
    left_out: tuple[tuple[Series, str], ...]
    patient: str
    persons: tuple[str, ...]  # `Pseudonyms.persons`
    case: str
    accession: str
    verdict: str = ""  # accepted, there already, rejected, or (dry run) would be read
    problems: list[Problem] = field(default_factory=list)

    @property
    def accepted(self) -> bool:
        """Whether the data set has it."""
        return self.verdict != "rejected"


@dataclass(frozen=True)
class ImportResult:
    """Studies, each accepted or rejected; problems and left out files that belong to none of them.

    names: what to call a file or folder before the user, who may have given an archive.
    """

    out: Path
    studies: tuple[Study, ...]
    problems: tuple[Problem, ...]
    left_out: tuple[LeftOut, ...]
    names: Mapping[Path, str] = field(repr=False)

    @property
    def accepted(self) -> int:
        """Studies that the data set has."""
        return sum(study.accepted for study in self.studies)

    @property
    def rejected(self) -> int:
        """All others."""
        return len(self.studies) - self.accepted

    @property
    def has_errors(self) -> bool:
        """Whether anything is an error: a study rejected, or a file that cannot be used."""
        own = [problem for study in self.studies for problem in study.problems]
        return self.rejected > 0 or any(p.severity == "error" for p in (*own, *self.problems))


def held_patients(out: Path) -> dict[str, str]:
    """The patient of each case in cases.csv, empty without one.

    Raises DataError: it, or problems.csv, is not the table that was written.
    """
    if (out / PROBLEMS).exists():
        read_table(out / PROBLEMS, required=PROBLEM_COLUMNS)  # hours later is too late to find out
    if not (out / CASES).exists():
        return {}
    held = read_table(out / CASES, required=COLUMNS)
    return dict(zip(held["case_id"], held["patient_id"].str.strip(), strict=True))


def write_tables(result: ImportResult) -> None:
    """cases.csv, in which rows that are there keep what was filled in, and problems.csv.

    Rows of studies that this source does not have stay in both.
    """
    import pandas as pd

    path = result.out / CASES
    new = {
        study.case: {
            "case_id": study.case,
            "patient_id": study.patient,
            "image_path": f"{IMAGES}/{study.case}.nii.gz",
            "accession": study.accession,
        }
        for study in result.studies
        if study.accepted
    }
    rows: list[dict[str, str]] = []
    names = list(COLUMNS)
    if path.exists():
        held = read_table(path, required=COLUMNS)
        names = list(held.columns)
        for record in held.to_dict("records"):
            row = {str(key): str(value) for key, value in record.items()}
            told = new.pop(row["case_id"], {})
            rows.append(row | {name: text for name, text in told.items() if text})
    rows += new.values()
    frame = pd.DataFrame(rows, columns=names, dtype=str).fillna("")
    if rows:
        write_table(frame, path)
    table, path = _problem_table(result), result.out / PROBLEMS
    if path.exists():
        held = read_table(path, required=PROBLEM_COLUMNS)
        others = held[~held["case_id"].isin({study.case for study in result.studies})]
        table = pd.concat([others[list(PROBLEM_COLUMNS)], table]).drop_duplicates()
    write_table(table, path)


def _problem_table(result: ImportResult) -> pd.DataFrame:
    import pandas as pd

    rows: list[tuple[str, ...]] = []
    facts = [fact for study in result.studies for fact in study.facts]
    for study in result.studies:
        summary = _left_out(study)
        own: list[tuple[str, str, str, str, str]] = [
            (p.severity, p.code, p.detail, p.fix or p.kind.fix_en, _chinese(p))
            for p in study.problems
        ]
        own += [("note", "left-out", summary, "", KINDS["left-out"].zh)] if summary else []
        for severity, code, detail, fix, zh in own or [("", "", "", "", "")]:
            detail, fix = (scrub(text, study.series, study.facts) for text in (detail, fix))
            rows.append((study.case, study.verdict, severity, code, detail, fix, zh))
    for p in result.problems:
        detail = scrub(p.detail.replace(Path(p.file).name, "a file"), (), facts)
        rows.append(("", "", p.severity, p.code, detail, p.fix or p.kind.fix_en, _chinese(p)))
    return pd.DataFrame(rows, columns=list(PROBLEM_COLUMNS))


def _chinese(problem: Problem) -> str:
    return f"{problem.kind.zh}；{problem.kind.fix_zh}"


def _left_out(study: Study) -> str:
    reasons = [reason for _, reason in study.left_out]
    return "; ".join(
        f"{reasons.count(reason)} series: {reason}" for reason in dict.fromkeys(reasons)
    )


def print_result(result: ImportResult, source: Path, *, dry_run: bool) -> None:
    """A table of all studies, then what is to be said of each, then of other files."""
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, markup=False, highlight=False)
    table = Table("case", "verdict", "where", "why", title=None)
    for study in result.studies:
        table.add_row(study.case, study.verdict, study.source, study.why)
    console.print(table)
    for study in result.studies:
        for problem in study.problems:
            console.print(f"{study.case}: {_said(problem, result.names)}")
        for said in _series_left_out(study, every=dry_run):
            console.print(f"{study.case}: left out: {said}")
    for problem in result.problems:
        console.print(_said(problem, result.names))
    reasons = [left.reason for left in result.left_out]
    for reason in dict.fromkeys(reasons):
        files = [left.file for left in result.left_out if left.reason == reason]
        first = ", ".join(result.names.get(file, str(file)) for file in files[:LISTED])
        more = ", ..." * (len(files) > LISTED)
        count = f"{len(files)} file{'s' * (len(files) > 1)}"
        console.print(f"{count} left out: {reason} ({first}{more})")
    total = len(result.studies)
    verdicts = f"{result.accepted} accepted + {result.rejected} rejected = {total} studies"
    there = sum(study.verdict == "there already" for study in result.studies)
    more = f" ({there} were there already; --overwrite reads them again)" if there else ""
    if dry_run:
        console.print(f"dry run, nothing read or written: {verdicts} by their headers")
    else:
        console.print(f"{str(source).removeprefix(LONG_PREFIX)}: {verdicts}{more}")
        console.print(f"written to {str(result.out).removeprefix(LONG_PREFIX)}")


def _said(problem: Problem, names: Mapping[Path, str]) -> str:
    """One line of a problem, in which files have the names that the user knows them by."""
    file = names.get(Path(problem.file), problem.file)
    by_number = {path.name: name for path, name in names.items() if path.name != Path(name).name}
    detail = re.sub(r"\b\d{4,6}\b", lambda m: by_number.get(m[0], m[0]), problem.detail)
    fix = problem.fix or problem.kind.fix_en
    said = f"{problem.severity} {problem.code}: {file}: {detail}. Fix: {fix}"
    # A note asks nothing of anybody.
    return said if problem.severity == "note" else f"{said} / {_chinese(problem)}"


def _series_left_out(study: Study, *, every: bool) -> list[str]:
    """A line for each series that --series-uid might name; for the others one together."""
    rest, lines = [], []
    for series, reason in study.left_out:
        if every or reason.startswith(DIAGNOSTIC) or study.chosen is None:
            lines.append(f"{_name(series)}: {reason}")
        else:
            number = "" if series.number is None else f"{series.number} "
            rest.append(f"{number}{series.description or series.modality} ({reason})")
    return lines + (["; ".join(rest)] if rest else [])


def _name(series: Series) -> str:
    """A series as the user finds it in the archive, with the UID that --series-uid takes."""
    number = "" if series.number is None else f"{series.number} "
    return f"{number}{series.description or series.modality} {series.series_uid}".strip()
