"""`ctscribe import-dicom`: a hospital's DICOM folder or zip to images and a table of cases.

Every study is accepted or rejected, with the reason. What is written holds pseudonyms alone, but
for the accession number in cases.csv, by which reports are joined. The source is only read.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ctscribe.errors import ConfigError, CtscribeError, DataError
from ctscribe.files import is_link, long_path, replacing, write_atomically
from ctscribe.imaging.dicom import Scan, choose_series, scan_files, studies
from ctscribe.intake.archive import unpack
from ctscribe.intake.import_options import ImportOptions
from ctscribe.intake.import_result import (
    CASES,
    IMAGES,
    PROBLEMS,
    ImportResult,
    Study,
    held_patients,
    print_result,
    write_tables,
)
from ctscribe.intake.study import Facts, Imported, Job, import_series, look, scrub
from ctscribe.problems import Problem, problem_of
from ctscribe.sandbox import Limits, run_each, run_one
from ctscribe.tables.pseudonym import (
    Identity,
    Pseudonyms,
    default_salt_file,
    load_salt,
    shared_by,
)

T = TypeVar("T")
R = TypeVar("R")

ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".iso")
SLOWEST_BYTES_S = 10e6  # of a share that is still working: what headers and archives may take

_log = logging.getLogger(__name__)


def run_import(options: ImportOptions) -> int:
    """`import_studies`; returns the exit code: 2 if a study was rejected or a file is unusable."""
    return 2 if import_studies(options).has_errors else 0


def import_studies(options: ImportOptions) -> ImportResult:
    """Import all studies of the source, print what became of each, write the data set.

    Raises ConfigError (paths, salt, an unknown series) and DataError (no DICOM in it, an archive
    that is refused) before anything is written.
    """
    source, out = _paths(options)
    salt_file = options.salt_file or default_salt_file()
    made_up = options.dry_run and not salt_file.exists()
    salt = load_salt(options.salt_file, outside=(source, out), create=not options.dry_run)
    ids = Pseudonyms(salt)
    source, out = long_path(source), long_path(out)
    held = {} if options.dry_run else _held_persons(out, ids)
    with tempfile.TemporaryDirectory(prefix="ctscribe-", ignore_cleanup_errors=True) as folder:
        temporary = Path(folder)
        files, unread = _files(source, temporary)
        packed = {file for file, name in files.items() if name.lower().endswith(ARCHIVES)}
        unread += tuple(_unopened(file) for file in sorted(packed))
        scan, facts = _scan([file for file in files if file not in packed], options)
        if not scan.series:
            raise _nothing(source, len(files), (*unread, *scan.problems))
        found = _studies(scan, facts, files, options, ids)
        others = _to_studies((*unread, *scan.problems), found)
        if not options.dry_run:
            _require_writable(out)
        _name_patients(found, held, {} if options.dry_run else held_patients(out))
        _import(found, temporary, out, options, ids)
    names = files | {file.parent: str(Path(name).parent) for file, name in files.items()}
    result = ImportResult(out, tuple(found), others, scan.left_out, names)
    if not options.dry_run:
        write_tables(result)
    print_result(result, source, dry_run=options.dry_run)
    print(
        f"there is no secret at {salt_file} yet, so the ids above are not those to come"
        if made_up
        else f"ids are made with the secret {salt_file}: keep a copy of it, apart from the data"
    )
    _log.info("%d studies accepted, %d rejected", result.accepted, result.rejected)
    return result


def _unopened(file: Path) -> Problem:
    """Of an archive among the files: studies may be in it, so it is not one of many left out."""
    fix = "run import-dicom on it too, with the same --out (unpack it first if it is no .zip)"
    return Problem("", str(file), "left-out", "an archive in the source, which is not opened", fix)


def _nothing(source: Path, files: int, problems: tuple[Problem, ...]) -> DataError:
    first = problems[0] if problems else None
    return DataError(
        f"no DICOM image among {files} files{f'; {first.file}: {first.detail}' if first else ''}",
        file=source,
        fix=(first.fix or first.kind.fix_en) if first else "give the folder of the DICOM files",
        code=first.code if first else "unreadable",
    )


def _paths(options: ImportOptions) -> tuple[Path, Path]:
    source = options.source
    if source is None:
        raise ConfigError("no source is given", fix="give a folder or a zip of DICOM files")
    if not source.exists():
        raise DataError(
            "there is no such folder or file", file=source, fix="check the path", code="missing"
        )
    if source.is_file() and source.suffix.lower() != ".zip":
        raise DataError(
            "it is neither a folder nor a .zip",
            file=source,
            fix="give the folder of the DICOM files",
            code="unreadable",
        )
    name = source.resolve().name if source.is_dir() else source.stem
    out = options.out or source.resolve().parent / f"{name}_ctscribe"
    inside = source.is_dir() and out.resolve().is_relative_to(source.resolve())
    if inside or out.is_file():
        raise ConfigError(
            f"--out {out} {'lies in the source' if inside else 'is a file'}",
            fix="give a folder elsewhere",
        )
    return source, out


def _held_persons(out: Path, ids: Pseudonyms) -> dict[str, tuple[str, ...]]:
    """`Pseudonyms.persons` of each case that is there.

    Refuses two salts in one data set: one patient would get two ids, on both sides of a split.
    """
    persons = {}
    for sidecar in sorted((out / IMAGES).glob("*.json")):
        try:
            said = json.loads(sidecar.read_text(encoding="utf-8"))
            held = said["salt_fingerprint"]
            persons[said["case_id"]] = tuple(said.get("persons", ()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                "it is no sidecar of this program",
                file=sidecar,
                fix="choose an empty folder with --out",
            ) from error
        if held != ids.fingerprint:
            raise ConfigError(
                f"{out} was made with another salt or version: its patients would get second ids",
                fix="name that salt with --salt-file, or choose an empty folder with --out",
            )
    return persons


def _require_writable(out: Path) -> None:
    """Not after hours of reading: try the folder, and the table, which Excel locks."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / ".writable", b"")
        (out / ".writable").unlink(missing_ok=True)  # two imports may run at once
        for table in (out / CASES, out / PROBLEMS):
            if table.exists():
                with table.open("r+b"):
                    pass
    except OSError as error:
        raise DataError(
            f"it cannot be written ({error.strerror})",
            file=Path(error.filename or out),
            fix="close its tables in Excel, check its rights, or choose another folder with --out",
        ) from error


def _files(source: Path, temporary: Path) -> tuple[dict[Path, str], tuple[Problem, ...]]:
    """All files, and what to call each before the user: its path in the source.

    Folders that cannot be opened are problems.
    """
    if source.is_dir():
        closed: list[Problem] = []

        def cannot(error: OSError) -> None:
            detail = f"the folder cannot be opened ({error.strerror})"
            closed.append(Problem("", str(error.filename), "unreadable", detail))

        walked = []
        for at, folders, names in os.walk(source, onerror=cannot):
            walked += [Path(at) / name for name in sorted(names)]
            for linked in (path for name in folders if is_link(path := Path(at) / name)):
                detail = "a link to a folder, which is not followed"
                closed.append(Problem("", str(linked), "left-out", detail, "give that folder too"))
        # A pipe would keep its reader waiting; a link to nothing is reported as missing.
        files = sorted(file for file in walked if file.is_file() or not file.exists())
        return {file: str(file.relative_to(source)) for file in files}, tuple(closed)
    folder = temporary / "zip"
    folder.mkdir()
    limits = Limits(4 << 30, 600 + source.stat().st_size / SLOWEST_BYTES_S)
    with _bar("unpacking", None):
        return _one(partial(unpack, folder=folder), source, limits, source), ()


def _to_studies(problems: tuple[Problem, ...], found: list[Study]) -> tuple[Problem, ...]:
    """Give each study what was found of its files; returns what belongs to none."""
    owner: dict[str, Study] = {}
    for study in found:
        for series in study.series:
            owner |= {str(one.file): study for one in series.instances}
            owner |= {broken.file: study for broken in series.broken}
    for problem in problems:
        if problem.file in owner:
            owner[problem.file].problems.append(problem)
    return tuple(problem for problem in problems if problem.file not in owner)


def _scan(files: Sequence[Path], options: ImportOptions) -> tuple[Scan, dict[Path, Facts]]:
    """All headers in one child; a file that breaks it is found, named, and left out."""
    limits = Limits(4 << 30, 300 + 0.5 * len(files))
    with _bar("headers", None):
        (outcome,) = run_each(look, [tuple(files)], workers=1, limits=limits)
    if outcome.value is not None:
        return outcome.value
    alone = Limits(1 << 30, 60)
    breaking: dict[Path, Problem] = {}
    with _bar("headers, one by one", len(files)) as advance:
        for each in run_each(_scan_one, files, workers=options.workers, limits=alone):
            if each.error is not None:
                breaking[each.item] = problem_of(each.error, case="", file=each.item)
            advance()
    sound = tuple(file for file in files if file not in breaking)
    scan, facts = _one(look, sound, limits, files[0].parent)
    return Scan(scan.series, (*scan.problems, *breaking.values()), scan.left_out), facts


def _scan_one(file: Path) -> None:
    scan_files([file])


def _one(function: Callable[[T], R], item: T, limits: Limits, file: Path) -> R:
    """One call in a child; its error is raised here, with the file where it names none."""
    try:
        return run_one(function, item, limits=limits)
    except CtscribeError as error:
        if error.file is not None:
            raise
        raise DataError(error.reason, file=file, fix=error.fix, code=error.code) from error


def _studies(
    scan: Scan,
    facts: dict[Path, Facts],
    files: dict[Path, str],
    options: ImportOptions,
    ids: Pseudonyms,
) -> list[Study]:
    wanted = {uid.strip() for uid in (options.series_uid or "").split(",")} - {""}
    unknown = wanted - {one.series_uid for one in scan.series}
    if unknown:
        raise ConfigError(
            f"--series-uid names {len(unknown)} series that the source does not have",
            fix="copy the UID from the list that --dry-run prints",
        )
    found = []
    persons: dict[str, list[Identity]] = {}
    for group in studies(scan):
        choice = choose_series(group)
        chosen, why, left_out = choice.chosen, choice.why, choice.left_out
        named = next((one for one in group if one.series_uid in wanted), None)
        if named is not None and named is not chosen:
            left_out = tuple((one, reason) for one, reason in left_out if one is not named)
            left_out += ((chosen, "another one is named with --series-uid"),) if chosen else ()
            chosen, why = named, "named with --series-uid"
        own = [facts[one.instances[0].file] for one in group]
        first = own[group.index(chosen)] if chosen else own[0]
        # Studies without a UID are known by their content.
        study = group[0].study_uid or first.content
        patient = ids.patient(first.identity, study=study)
        persons.setdefault(patient, []).append(first.identity)
        series = chosen or group[0]
        many = len(choice.diagnostic)
        accession = next((one.accession for one in group if one.accession), "")
        case = ids.case(patient, study, series.series_uid or first.content)
        first_file = str(series.instances[0].file)
        detail = f"{many} series would do; taken was {why}"
        problems = [Problem(case, first_file, "several-series", detail)] if many > 1 else []
        if lacks := [
            what
            for what, said in (("patient id", first.identity.patient_id), ("accession", accession))
            if not said.strip()
        ]:
            detail = f"the study has no {' and no '.join(lacks)}"
            problems.append(Problem(case, first_file, "id-missing", detail))
        found.append(
            Study(
                series=group,
                facts=own,
                source=str(Path(files[series.instances[0].file]).parent),
                chosen=chosen,
                why=why,
                left_out=left_out,
                patient=patient,
                persons=ids.persons(first.identity),
                case=case,
                accession=ids.accession(accession) if options.hash_accession else accession,
                problems=problems,
            )
        )
    for one in found:
        if shared := shared_by(persons[one.patient]):
            one.problems.append(Problem(one.case, one.source, "patient-shared", shared))
    return found


def _name_patients(
    found: Sequence[Study], persons: Mapping[str, Sequence[str]], patients: Mapping[str, str]
) -> None:
    """Keep the patients that cases.csv names; warn where one person would count as several.

    persons, patients: of each case that is there already.
    """
    of_person: dict[str, set[str]] = {}
    for study in found:
        study.patient = patients.get(study.case) or study.patient
        for person in study.persons:
            of_person.setdefault(person, set()).add(study.patient)
    for case, several in persons.items():
        for person in several:
            of_person.setdefault(person, set()).update({patients.get(case, "")} - {""})
    for study in found:
        others = set().union(*(of_person[one] for one in study.persons)) - {study.patient}
        if others:
            detail = f"its name and birth date stand under {', '.join(sorted(others))} as well"
            study.problems.append(Problem(study.case, study.source, "patient-split", detail))


def _import(
    found: list[Study],
    temporary: Path,
    out: Path,
    options: ImportOptions,
    ids: Pseudonyms,
) -> None:
    """Read what was chosen, in worker processes; each study gets its verdict."""
    jobs: dict[str, tuple[Job, Study]] = {}
    for study in found:
        case, series = study.case, study.chosen
        image, sidecar = _targets(out, case)
        if series is None:
            _reject(study, Problem(case, study.source, "no-chest", study.why))
        elif case in jobs:
            twin = "the same study is there twice, in two folders"
            _reject(study, Problem(case, study.source, "image-duplicate", twin))
        elif options.dry_run:
            study.verdict = "would be read"
        elif image.is_file() and sidecar.is_file() and not options.overwrite:
            study.verdict = "there already"
        else:
            facts = study.facts[study.series.index(series)]
            target = temporary / f"{case}.nii.gz"
            jobs[case] = (Job(case, series, facts, target, options.any_region), study)
    limits = Limits(int(options.memory_gb * (1 << 30)), options.minutes * 60)
    work = [job for job, _ in jobs.values()]
    with _bar("studies", len(work)) as advance:
        for outcome in run_each(import_series, work, workers=options.workers, limits=limits):
            job, study = jobs[outcome.item.case]
            if outcome.value is not None:
                extra = {
                    "patient_id": study.patient,
                    "persons": study.persons,
                    "series_id": ids.series(job.series.series_uid or job.facts.content),
                    "chosen_because": scrub(study.why, study.series, study.facts),
                    "salt_fingerprint": ids.fingerprint,
                }
                _keep(outcome.value, job, extra, *_targets(out, job.case))
                study.verdict = "accepted"
                study.problems += outcome.value.problems
            elif outcome.error is not None:
                first = job.series.instances[0].file
                _reject(study, problem_of(outcome.error, case=job.case, file=first))
            advance()


def _targets(out: Path, case: str) -> tuple[Path, Path]:
    return out / IMAGES / f"{case}.nii.gz", out / IMAGES / f"{case}.json"


def _reject(study: Study, problem: Problem) -> None:
    study.verdict = "rejected"
    study.problems.append(problem)


def _keep(imported: Imported, job: Job, extra: dict[str, Any], image: Path, sidecar: Path) -> None:
    """Move an image in, and write its sidecar after it: a case without one is no case."""
    try:
        image.parent.mkdir(parents=True, exist_ok=True)
        sidecar.unlink(missing_ok=True)
        # ITK wrote to a short path, whatever the length of this one.
        with replacing(image) as part:
            shutil.copyfile(job.image, part)
        job.image.unlink()
        text = json.dumps(imported.sidecar | extra, ensure_ascii=False, indent=2) + "\n"
        write_atomically(sidecar, text.encode())
    except OSError as error:
        raise DataError(
            f"it cannot be written ({error.strerror})",
            case=job.case,
            file=image,
            fix="check that the folder is writable and has room; what is there already stays",
        ) from error


@contextmanager
def _bar(title: str, total: int | None) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task, 1)
