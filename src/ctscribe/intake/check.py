"""`ctscribe check`: every case of a table or folder examined, and every problem in one table."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from ctscribe.errors import ConfigError, DataError
from ctscribe.files import write_atomically
from ctscribe.intake.check_options import CheckOptions
from ctscribe.intake.examine import Examined, examine, studies_of
from ctscribe.intake.find import Case, NotLookedAt, find_cases
from ctscribe.problems import Problem, Severity, problem_of
from ctscribe.sandbox import Limits, run_each
from ctscribe.tables.csv_file import read_table, write_table
from ctscribe.tables.manifest import rebase_paths

if TYPE_CHECKING:
    import pandas as pd

ACCEPTED = "check_accepted.csv"
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
EXIT_CODES: dict[Severity, int] = {"error": 2, "warning": 1, "note": 0}
R = TypeVar("R")
FILE_S = 0.05  # that one header may take, on a slow share
ON_SCREEN = 40  # problems; the files have all
LISTED = 3  # files that are not looked at, of each reason
WORK_BYTES = 3 << 30  # that a child is expected to take for one CT, whatever it may


@dataclass(frozen=True)
class CheckResult:
    """Every case once, by name, and every file that is none.

    accepted_codes: whose problems count as notes.
    """

    input: Path
    cases: tuple[Examined, ...]
    others: tuple[NotLookedAt, ...] = ()
    accepted_codes: tuple[str, ...] = ()
    files: tuple[Path, ...] = field(default=(), compare=False)

    def severity(self, problem: Problem) -> Severity:
        """A problem's own, or a note where it was accepted."""
        return "note" if problem.code in self.accepted_codes else problem.severity

    @property
    def problems(self) -> list[Problem]:
        """All of them, the worst first."""
        found = [problem for case in self.cases for problem in case.problems]
        return sorted(
            found, key=lambda p: (SEVERITIES.index(self.severity(p)), p.case, p.file, p.code)
        )

    def is_rejected(self, case: Examined) -> bool:
        """Whether one of its problems is an error."""
        return any(self.severity(problem) == "error" for problem in case.problems)

    @property
    def rejected(self) -> list[Examined]:
        """Cases that cannot be used."""
        return [case for case in self.cases if self.is_rejected(case)]

    @property
    def accepted(self) -> list[Examined]:
        """All other cases."""
        return [case for case in self.cases if not self.is_rejected(case)]

    @property
    def counts(self) -> dict[Severity, int]:
        """Problems of each severity."""
        counted = Counter(self.severity(problem) for problem in self.problems)
        return {severity: counted[severity] for severity in SEVERITIES}

    @property
    def exit_code(self) -> int:
        """0 for nothing or notes, 1 for warnings, 2 for errors."""
        return max((EXIT_CODES[s] for s, n in self.counts.items() if n), default=0)


def check_data(options: CheckOptions) -> CheckResult:
    """Examine everything and write check.json and check.html. Source files are only read.

    Of a table of which cases are rejected, the other rows are written to check_accepted.csv.

    Raises DataError if there is no such path or nothing in it to examine, ConfigError without one.
    """
    if options.input is None:
        raise ConfigError("nothing to check was named", fix="ctscribe check CSV|FOLDER")
    found = find_cases(options.input, leave=options.output_dir)
    if not found.cases:  # an empty share must not look like a sound one
        other = next((f"; {other.file}: {other.reason}" for other in found.others), "")
        raise DataError(
            f"there is nothing in it to check{other}",
            file=options.input,
            fix="give images, DICOM, archives or tables, or a folder of them",
            code="missing",
        )
    cases = _examined(found.cases, options)
    if options.input.is_file() and cases and cases[0].kind == "table":
        cases = _with_images(cases[0], options)
    result = CheckResult(
        options.input,
        tuple(sorted(_with_duplicates(cases), key=lambda c: (c.case, c.kind))),
        found.others,
        options.accepted,
    )
    return replace(result, files=_write(result, options))


def run_check(options: CheckOptions) -> int:
    """`check_data`, the problems on the screen; returns the exit code."""
    result = check_data(options)
    show(result)
    return result.exit_code


def _examined(cases: Sequence[Case], options: CheckOptions) -> list[Examined]:
    """DICOM folders by their headers first, so that each study is a case with limits of its own."""
    folders = [case for case in cases if case.kind == "dicom"]
    others = [case for case in cases if case.kind != "dicom"]
    failed: list[Examined] = []
    files = max((len(case.files) for case in folders), default=0)
    for case, studies, problem in _run(studies_of, folders, options, "headers", files * FILE_S):
        others += studies or ()
        failed += [_failed(case, problem)] if problem is not None else []
    return failed + _run_examine(others, options, "examining")


def _run_examine(cases: Sequence[Case], options: CheckOptions, what: str) -> list[Examined]:
    found: list[Examined] = []
    for case, examined, problem in _run(examine, cases, options, what):
        found += examined or () if problem is None else [_failed(case, problem)]
    return found


def _failed(case: Case, problem: Problem) -> Examined:
    return Examined(case.name, case.kind, str(case.path), (problem,))


def _run(
    function: Callable[[Case], R],
    cases: Sequence[Case],
    options: CheckOptions,
    what: str,
    seconds: float = 0.0,
) -> Iterator[tuple[Case, R | None, Problem | None]]:
    """Each case in a child process, under a bar; one that dies there is a problem of its case.

    seconds: that a case may take at least, whatever the options say.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    if not cases:
        return
    limits = Limits(int(options.memory_gib * (1 << 30)), max(options.seconds, seconds))
    room = psutil.virtual_memory().available // min(WORK_BYTES, limits.memory_bytes)
    workers = options.workers or max(1, min(os.cpu_count() or 1, int(room), 60))
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress("{task.description}", *columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=len(cases))
        for outcome in run_each(function, cases, workers=workers, limits=limits):
            case, error = outcome.item, outcome.error
            yield (
                case,
                outcome.value,
                None if error is None else problem_of(error, case=case.name, file=case.path),
            )
            progress.advance(task)


def _with_images(table: Examined, options: CheckOptions) -> list[Examined]:
    """The table's rows as cases of their own, each with its image; and the table itself."""
    images: dict[str, Path] = {}  # a case has one image; where rows differ, that is a problem
    for row in table.rows:
        if row.image is not None:
            images.setdefault(row.case, row.image)
    distinct = [Case(str(path), "image", path) for path in dict.fromkeys(images.values())]
    examined = {one.file: one for one in _run_examine(distinct, options, "images")}
    names = dict.fromkeys(row.case for row in table.rows)
    own: dict[str, list[Problem]] = {name: [] for name in names}
    rest: list[Problem] = []
    for problem in table.problems:
        own.get(problem.case, rest).append(problem)
    cases = [replace(table, problems=tuple(rest), rows=())]
    for name in names:
        image = examined.get(str(images[name])) if name in images else None
        if image is None:
            cases.append(Examined(name, "row", table.file, tuple(own[name])))
            continue
        problems = (*own[name], *(_of_row(problem, name) for problem in image.problems))
        cases.append(replace(image, case=name, kind="row", problems=problems))
    return cases


def _of_row(problem: Problem, case: str) -> Problem:
    """An image's problem as its row's. A mask may lie beside CTs, but no report is of one."""
    if problem.code == "left-out":
        fix = "name the CT in image_path"
        return Problem(case, problem.file, "not-hu", problem.detail, fix)
    return replace(problem, case=case)


def _with_duplicates(cases: Iterable[Examined]) -> list[Examined]:
    """Cases whose voxels another case has too are told of each other."""
    cases = list(cases)
    alike: dict[str, list[Examined]] = {}
    for case in cases:
        if case.voxels_sha256:
            alike.setdefault(case.voxels_sha256, []).append(case)
    marked = []
    for case in cases:
        others = [o.case for o in alike.get(case.voxels_sha256, ()) if o is not case]
        if others:
            more = f" and {len(others) - 3} more" if len(others) > 3 else ""
            detail = f"the same voxels as {', '.join(others[:3])}{more}"
            problem = Problem(case.case, case.file, "image-duplicate", detail)
            case = replace(case, problems=(*case.problems, problem))
        marked.append(case)
    return marked


def shown(text: str) -> str:
    """Text from files that can stand on a terminal and in UTF-8: what cannot is escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def below(result: CheckResult, file: str) -> str:
    """A file's path below what was checked, or as it is."""
    root = result.input if result.input.is_dir() else result.input.parent
    try:
        return shown(Path(file).relative_to(root).as_posix())
    except ValueError:
        return shown(file)


def as_json(result: CheckResult) -> dict[str, Any]:
    """All of it as plain values, patients' texts and voxels left out."""
    total, accepted, rejected = len(result.cases), len(result.accepted), len(result.rejected)
    assert accepted + rejected == total
    return {
        "input": shown(str(result.input)),
        "cases": total,
        "accepted": accepted,
        "rejected": rejected,
        "problems": dict(result.counts),
        "codes": dict(Counter(problem.code for problem in result.problems).most_common()),
        "accept": list(result.accepted_codes),
        "exit_code": result.exit_code,
        "examined": [
            {
                "case": shown(case.case),
                "kind": case.kind,
                "file": below(result, case.file),
                "verdict": "rejected" if result.is_rejected(case) else "accepted",
                "facts": case.facts,
                "voxels_sha256": case.voxels_sha256,
                "problems": [_plain(result, problem) for problem in case.problems],
            }
            for case in result.cases
        ],
        "not_looked_at": [{"file": shown(o.file), "reason": o.reason} for o in result.others],
    }


def _plain(result: CheckResult, problem: Problem) -> dict[str, str]:
    return {
        "case": shown(problem.case),
        "file": below(result, problem.file),
        "code": problem.code,
        "severity": result.severity(problem),
        "problem": problem.kind.en,
        "problem_zh": problem.kind.zh,
        "detail": shown(problem.detail),
        "fix": shown(problem.fix or problem.kind.fix_en),
        "fix_zh": problem.kind.fix_zh,
    }


def _write(result: CheckResult, options: CheckOptions) -> tuple[Path, ...]:
    from ctscribe.intake.check_page import render_check

    try:
        options.output_dir.mkdir(parents=True, exist_ok=True)
        json_file, html_file = (options.output_dir / f"check.{e}" for e in ("json", "html"))
        text = json.dumps(as_json(result), ensure_ascii=False, indent=1)
        write_atomically(json_file, text.encode())
        write_atomically(html_file, render_check(result).encode())
        table = options.output_dir / ACCEPTED
        table.unlink(missing_ok=True)  # an earlier check's
    except OSError as error:
        raise ConfigError(
            f"the results cannot be written ({error.strerror})",
            file=options.output_dir,
            fix="give another --output-dir, or close the files in other programs",
        ) from error
    rows = _accepted_rows(result, options.output_dir)
    if rows is None:
        return json_file, html_file
    write_table(rows, table)
    return json_file, html_file, table


def _accepted_rows(result: CheckResult, folder: Path) -> pd.DataFrame | None:
    """The table for a CSV in `folder` without the rows of rejected cases; None if it has none, or
    is wrong as a whole, or nothing would be left."""
    tables = [case for case in result.cases if case.kind == "table"]
    if not result.input.is_file() or not tables or result.is_rejected(tables[0]):
        return None
    frame = read_table(result.input)
    if "case_id" not in frame.columns:
        return None
    rejected = {case.case for case in result.rejected}
    # A row without an id is rejected, and named by its line.
    names = frame["case_id"].str.strip()
    kept = frame[(names != "") & ~names.isin(rejected)]
    if kept.empty or len(kept) == len(frame):
        return None
    return rebase_paths(kept, result.input.parent, folder)


def show(result: CheckResult) -> None:
    """The problems as a table on the screen, `ON_SCREEN` of them, and the totals."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console = Console(file=sys.stdout, width=180)
    styles = {"error": "bold red", "warning": "yellow", "note": "dim"}
    problems = result.problems
    if problems:
        table = Table("case", "file", "problem", "severity", "fix", show_lines=False)
        for problem in problems[:ON_SCREEN]:
            row = _plain(result, problem)
            what = f"{row['code']} {row['problem_zh']}: {row['detail']}"
            severity = Text(row["severity"], styles[row["severity"]])
            file = "" if row["file"] == row["case"] else row["file"]
            # Text, because a file's name may hold what looks like rich's own marks.
            fix = Text(
                row["fix"] if severity.plain == "note" else f"{row['fix']} / {row['fix_zh']}"
            )
            table.add_row(Text(row["case"]), Text(file), Text(what), severity, fix)
        console.print(table)
    if len(problems) > ON_SCREEN:
        console.print(f"and {len(problems) - ON_SCREEN} more problems, in the files below")
    by_reason: dict[str, list[str]] = {}
    for other in result.others:
        by_reason.setdefault(other.reason, []).append(shown(other.file))
    for reason, files in by_reason.items():
        more = f" and {len(files) - LISTED} more" if len(files) > LISTED else ""
        console.print(Text(f"not looked at: {', '.join(files[:LISTED])}{more} ({reason})", "dim"))
    counts = ", ".join(f"{n} {s}{'' if n == 1 else 's'}" for s, n in result.counts.items())
    # A table counts beside its rows, for it has problems that none of them has.
    kinds = Counter(case.kind for case in result.cases)
    of = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
    console.print(
        f"{len(result.cases)} cases: {len(result.accepted)} accepted, "
        f"{len(result.rejected)} rejected; {counts} ({of})"
    )
    for written in result.files:
        console.print(Text(str(written)))
