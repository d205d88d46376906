"""One case of `ctscribe check`: what runs in a child process and never trusts a file."""

from __future__ import annotations

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ctscribe.errors import CtscribeError, ImageError
from ctscribe.imaging import dicom
from ctscribe.imaging.anatomy import check_anatomy
from ctscribe.imaging.nifti import FORMATS, count_labels, read_volume
from ctscribe.imaging.render import three_planes
from ctscribe.imaging.volume import Volume, voxels_sha256
from ctscribe.intake.archive import unpack
from ctscribe.intake.examine_table import TableRow, examine_csv
from ctscribe.intake.find import Case, sort_files
from ctscribe.problems import Problem, problem_of
from ctscribe.tables.examine import examine_workbook

log = logging.getLogger(__name__)

LISTED = 3


@dataclass(frozen=True)
class Examined:
    """What was found of a case. voxels_sha256: empty where no voxel was read. facts: of the image.

    planes: axial, coronal and sagittal pictures (base64 PNG) where a person should look. rows: of a
    table.
    """

    case: str
    kind: str
    file: str
    problems: tuple[Problem, ...] = ()
    voxels_sha256: str = ""
    facts: str = ""
    planes: tuple[str, ...] = field(default=(), repr=False)
    rows: tuple[TableRow, ...] = field(default=(), repr=False)


def examine(case: Case) -> tuple[Examined, ...]:
    """Look at a case; a DICOM folder or an archive may hold several.

    Never raises for what a file holds: a reader that fails in a way it should not is a problem of
    that case, so that one file does not end a check of thousands.
    """
    look: dict[str, Callable[[Case], tuple[Examined, ...]]] = {
        "image": _image,
        "dicom": _dicom,
        "study": _study,
        "zip": _zip,
        "table": _table,
        "workbook": _workbook,
    }
    try:
        return look[case.kind](case)
    except CtscribeError as error:
        return (_of(case, problem_of(error, case=case.name, file=case.path)),)
    except (MemoryError, RecursionError):
        raise  # the sandbox says which limit it was
    except Exception as error:
        log.exception("%s: its reader failed", case.name)
        detail = f"the reader failed ({type(error).__name__})"
        return (_of(case, Problem(case.name, str(case.path), "parse-limit", detail)),)


def _of(case: Case, *problems: Problem) -> Examined:
    return Examined(case.name, case.kind, str(case.path), problems)


def _volume(case: Case, volume: Volume, known: Sequence[Problem] = ()) -> Examined:
    """Anatomy, hash and pictures of a volume that could be read."""
    checked = check_anatomy(volume)
    problems = [
        Problem(case.name, str(case.path), fault.code, fault.detail) for fault in checked.faults
    ]
    problems = [*known, *problems]
    z, y, x = volume.array_zyx.shape
    dz, dy, dx = volume.spacing_zyx_mm
    shown = any(problem.severity == "error" for problem in problems) or bool(checked.faults)
    rows = checked.chest.lung_z_range if checked.chest is not None else (0, 0)
    middle = rows[0] + (rows[1] - rows[0]) // 3 if rows[1] > rows[0] else None
    return Examined(
        case.name,
        case.kind,
        str(case.path),
        tuple(problems),
        voxels_sha256(volume),
        f"{x} x {y} x {z}, {dx:.3g} x {dy:.3g} x {dz:.3g} mm",
        three_planes(volume, z_index=middle) if shown else (),
    )


def _image(case: Case) -> tuple[Examined, ...]:
    try:
        volume = read_volume(case.path, case=case.name)
    except ImageError as error:
        labels = count_labels(case.path) if error.code in ("not-hu", "blank") else None
        if labels is None:
            raise
        detail = f"a mask (labels beside 0: {labels}), not checked as a CT"
        return (_of(case, Problem(case.name, str(case.path), "left-out", detail, "nothing to do")),)
    return (_volume(case, volume),)


def _dicom(case: Case) -> tuple[Examined, ...]:
    return tuple(one for study in studies_of(case) for one in examine(study))


def studies_of(case: Case) -> list[Case]:
    """A folder of DICOM by its headers: one case for each study, and one for what is in none."""
    scan = dicom.scan_files(case.files)
    studies = dicom.studies(scan)
    found: list[Case] = []
    told: set[Problem] = set()
    for number, series in enumerate(studies, 1):
        name = case.name if len(studies) == 1 else f"{case.name} #{number}"
        files = {str(i.file) for one in series for i in one.instances}
        own = case if len(studies) == 1 else replace(case, path=_folder_of(files))
        broken = {problem for one in series for problem in one.broken}
        problems = [p for p in scan.problems if p.file in files or p in broken]
        told.update(problems)
        if len(studies) == 1:
            problems = list(scan.problems)
        elif number == 1:
            detail = f"{len(studies)} studies in this folder"
            problems.append(Problem("", str(case.path), "several-patients", detail))
        if number == 1:
            problems += _left_out(case, scan.left_out)
        found.append(_study_case(own, name, problems, series))
    rest = [problem for problem in scan.problems if problem not in told]
    if not studies:
        if not any(problem.severity == "error" for problem in rest):
            detail = f"no image in {len(case.files)} DICOM files"
            rest.append(Problem(case.name, str(case.path), "no-chest", detail))
        rest += _left_out(case, scan.left_out)
    if not studies or (len(studies) > 1 and any(p.severity != "note" for p in rest)):
        found.append(_study_case(case, case.name, rest))
    return found


def _folder_of(files: Iterable[str]) -> Path:
    """The folder that holds all of a study, by which a person finds it."""
    return Path(os.path.commonpath([os.path.dirname(file) for file in files]))


def _study_case(
    case: Case, name: str, problems: Iterable[Problem], series: Iterable[dicom.Series] = ()
) -> Case:
    return Case(name, "study", case.path, series=tuple(series), problems=_together(problems, name))


def _together(problems: Iterable[Problem], case: str) -> tuple[Problem, ...]:
    """Problems of a case, those that many files share as one of the first file."""
    alike: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        alike.setdefault((problem.code, problem.detail), []).append(problem)
    return tuple(
        replace(
            same[0],
            case=case,
            detail=same[0].detail + (f" ({len(same)} files)" if len(same) > 1 else ""),
        )
        for same in alike.values()
    )


def _left_out(case: Case, files: Sequence[dicom.LeftOut]) -> list[Problem]:
    """A note of the files that are no images, by reason."""
    if not files:
        return []
    counts = Counter(file.reason for file in files)
    listed = "; ".join(f"{n} x {reason}" for reason, n in counts.most_common(LISTED))
    return [Problem(case.name, str(files[0].file), "left-out", f"files: {listed}")]


def _study(case: Case) -> tuple[Examined, ...]:
    problems = list(case.problems)
    if not case.series:
        return (_of(case, *problems),)
    choice = dicom.choose_series(case.series)
    if choice.left_out:
        reasons = "; ".join(why for _, why in choice.left_out[:LISTED])
        said = f"{len(choice.left_out)} series: {reasons}"
        problems.append(Problem(case.name, str(case.path), "left-out", said))
    if len(choice.diagnostic) > 1:
        problems.append(Problem(case.name, str(case.path), "several-series", choice.why))
    if choice.chosen is None:
        problems.append(Problem(case.name, str(case.path), "no-chest", choice.why))
        return (_of(case, *problems),)
    try:
        read = dicom.read_series(choice.chosen, case=case.name)
    except CtscribeError as error:
        own = problem_of(error, case=case.name, file=case.path)
        return (_of(case, *problems, own),)
    return (_volume(case, read.volume, [*problems, *read.problems]),)


def _zip(case: Case) -> tuple[Examined, ...]:
    """The images and the DICOM of an archive, unpacked where nothing can leave it."""
    with tempfile.TemporaryDirectory(prefix="ctscribe-") as scratch:
        names = unpack(case.path, Path(scratch))
        files = [(name, _with_ending(path, name), "") for path, name in names.items()]
        inside = sort_files(files, Path(scratch), "")
        found: list[Examined] = []
        left = [other.file for other in inside.others]
        for own in inside.cases:
            if own.kind in ("image", "dicom"):
                named = replace(own, name=f"{case.name}/{own.name}".rstrip("/"))
                found += [_named_as(one, case) for one in examine(named)]
            else:
                left.append(own.name)
    if left:
        detail = f"not looked at: {', '.join(left[:LISTED])}"
        detail += f" and {len(left) - LISTED} more" if len(left) > LISTED else ""
        note = Problem(case.name, str(case.path), "left-out", detail, "unpack it to look at them")
        if found:
            found[0] = replace(found[0], problems=(*found[0].problems, note))
        else:
            none = Problem(case.name, str(case.path), "no-chest", "it holds no image")
            found = [_of(case, none, note)]
    return tuple(found) or (
        _of(case, Problem(case.name, str(case.path), "no-chest", "it is empty")),
    )


def _with_ending(path: Path, name: str) -> Path:
    """The unpacked file with its image's ending, which says how to read it."""
    ending = next((e for e in FORMATS if name.lower().endswith(e)), "")
    return path.rename(path.with_name(path.name + ending)) if ending else path


def _named_as(one: Examined, archive: Case) -> Examined:
    """The archive's path for that of the unpacked file, which is gone by now."""
    file = str(archive.path)
    return replace(one, file=file, problems=tuple(replace(p, file=file) for p in one.problems))


def _table(case: Case) -> tuple[Examined, ...]:
    exam = examine_csv(case.path)
    problems = tuple(p if p.case else replace(p, case=case.name) for p in exam.problems)
    return (replace(_of(case, *problems), rows=exam.rows),)


def _workbook(case: Case) -> tuple[Examined, ...]:
    problems = examine_workbook(case.path)
    return (_of(case, *(p if p.case else replace(p, case=case.name) for p in problems)),)
