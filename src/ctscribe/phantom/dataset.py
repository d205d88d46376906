"""A phantom data set on disk, as a hospital might hand it over, with its exact truth beside it.

```
images/<case>.nii.gz     CT in HU, int16, stored in one of several orientations
masks/<case>.nii.gz      uint8, bit i is LESIONS[i] of findings.py, on the image's grid
regions/<case>.nii.gz    uint8, 0 outside, 1–5 lobes, 6 and 7 right and left pleural space
truth/<case>.json        what is really there, see `study_truth`
captions.csv             Chinese reports, one row a study, and the rubbish that real sheets hold;
                         the column `grade` as `grade_of` has it
captions_en.csv          the same studies in English
rubbish.json             what is rubbish in either table: for tests and the demo's page
```
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctscribe.errors import ConfigError, DataError
from ctscribe.phantom.findings import PROFILES, Lesion
from ctscribe.phantom.render import PhantomStudy, Rendered, render_study, sample_study
from ctscribe.phantom.rubbish import ANSWER_BEFORE, RUBBISH, add_rubbish, without_truth
from ctscribe.phantom.text import write_report
from ctscribe.reports.language import QUESTIONS
from ctscribe.reports.schema import LOBES, Finding, Language
from ctscribe.reports.sections import format_report
from ctscribe.tables.grade import GRADE_COLUMN, Grade

# Who may use which seeds. A data set's study i has the seed (seed, STUDY, i + 1): the first number
# keeps it apart from pretraining's and from every other data set's, whatever their sizes.
SEED_SPACES = {"data sets": range(10**9), "pretraining": range(10**9, 2**32)}
STUDY, PATIENT, TEXT, FILE, TABLE = 1, 2, 3, 4, 5  # kinds of randomness of a data set

TABLES: dict[Language, str] = {"zh": "captions.csv", "en": "captions_en.csv"}
SEVERAL_STUDIES = 0.2  # share of patients with two or three studies
ORIENTATIONS = ("LPS", "RAS", "LAS", "RPI", "PIR")  # the way axes point, as stored


@dataclass(frozen=True)
class DatasetSummary:
    """What `make_dataset` wrote. rows: of the table in `language`, rubbish included."""

    folder: Path
    table: Path
    studies: int
    patients: int
    rows: int
    rubbish_rows: int
    without_finding: int
    findings: dict[str, int]


@dataclass(frozen=True)
class _Job:
    folder: Path
    seed: int
    index: int
    patient: int
    profile: str
    write_masks: bool
    render_on: str

    @property
    def case(self) -> str:
        return f"S{self.seed}-{self.index:05d}"

    @property
    def patient_id(self) -> str:
        return f"P{self.seed}-{self.patient:05d}"

    def rng(self, kind: int, extra: int = 0) -> np.random.Generator:
        return _rng(self.seed, kind, self.index + 1, extra)


def _rng(seed: int, *key: int) -> np.random.Generator:
    # A last 1, because SeedSequence takes trailing zeros for nothing.
    return np.random.default_rng(np.random.SeedSequence((seed, *key, 1)))


def make_dataset(
    out_dir: str | Path,
    *,
    n_studies: int,
    seed: int,
    profile: str = "demo",
    language: Language = "zh",
    workers: int | None = None,
    write_masks: bool = True,
    render_on: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> DatasetSummary:
    """Write `n_studies` studies to `out_dir`; the same arguments give the same bytes.

    language: of the table that the summary counts (both are written). workers: processes, one a
    core if left out; the result does not depend on it. render_on: a GPU renders large studies
    faster than many cores, with other noise. progress: called with 1 for each study.
    Raises ConfigError for a seed of another space, an unknown profile or too few studies, and
    DataError if a file cannot be written. The tables come last: without them it is not whole.
    """
    _check(n_studies, seed, profile)
    folder = Path(out_dir)
    parts = ["images", "truth", *(("masks", "regions") if write_masks else ())]
    try:
        for part in parts:
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"the folder cannot be made ({error.strerror})", file=folder, fix="choose another"
        ) from error
    patients = _patients(n_studies, seed)
    jobs = [
        _Job(folder, seed, i, patient, profile, write_masks, render_on)
        for i, patient in enumerate(patients)
    ]
    truths = []
    for truth in _run(jobs, workers):
        truths.append(truth)
        if progress is not None:
            progress(1)
    tables = {lang: _table(jobs, truths, lang) for lang in TABLES}
    _write_tables(folder, tables)
    found = [finding for truth in truths for finding in truth["findings"]]
    return DatasetSummary(
        folder=folder,
        table=folder / TABLES[language],
        studies=n_studies,
        patients=len(set(patients)),
        rows=len(tables[language]),
        rubbish_rows=sum(bool(row[RUBBISH]) for row in tables[language]),
        without_finding=sum(not truth["findings"] for truth in truths),
        findings={
            name: sum(finding["name"] == name for finding in found)
            for name in sorted({finding["name"] for finding in found})
        },
    )


def _check(n_studies: int, seed: int, profile: str) -> None:
    if seed not in SEED_SPACES["data sets"]:
        raise ConfigError(
            f"the data set's seed is {seed}; from 1000000000 on they are pretraining's",
            fix="give a seed from 0 to 999999999",
        )
    if profile not in PROFILES:
        raise ConfigError(
            f"there is no phantom profile {profile}", fix=f"give one of {', '.join(PROFILES)}"
        )
    if n_studies < 1:
        raise ConfigError(f"{n_studies} studies are asked for", fix="ask for at least 1")


def _patients(n_studies: int, seed: int) -> list[int]:
    """The patient of each study; the studies of one patient do not stand together."""
    rng = _rng(seed, TABLE, 1)
    patients: list[int] = []
    while len(patients) < n_studies:
        several = int(rng.integers(2, 4)) if rng.random() < SEVERAL_STUDIES else 1
        patients += [patients[-1] + 1 if patients else 0] * several
    return [patients[i] for i in rng.permutation(n_studies)]


def _run(jobs: list[_Job], workers: int | None) -> Iterator[dict[str, Any]]:
    """`_make_study` for every job, in order."""
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers == 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield from map(_make_study, jobs)
        finally:
            torch.set_num_threads(threads)
        return
    # spawn is all that Windows has, and forking a process that runs torch's threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        yield from pool.map(_make_study, jobs, chunksize=2)


def _make_study(job: _Job) -> dict[str, Any]:
    """Draw one study, write its image, masks and truth; return the truth, and the study's grade."""
    study = sample_study(
        (job.seed, STUDY, job.index + 1), (job.seed, PATIENT, job.patient + 1), job.profile
    )
    rendered = render_study(study, job.render_on).cpu()
    rng = job.rng(FILE)
    orientation = ORIENTATIONS[int(rng.choice(len(ORIENTATIONS), p=(0.5, 0.2, 0.1, 0.1, 0.1)))]
    origin = rng.uniform(-200, 200, 3).round(2)
    truth = study_truth(study, rendered)
    truth |= {
        "case_id": job.case,
        "patient_id": job.patient_id,
        "profile": job.profile,
        "image": f"images/{job.case}.nii.gz",
        "mask": f"masks/{job.case}.nii.gz" if job.write_masks else None,
        "stored_orientation": orientation,
    }
    hu = np.rint(rendered.hu_zyx.numpy()).astype(np.int16)
    volumes: dict[str, NDArray[Any]] = {"images": hu}
    if job.write_masks:
        volumes["masks"] = rendered.lesion_zyx.numpy()
        volumes["regions"] = rendered.region_zyx.numpy()
    for part, array in volumes.items():
        file = job.folder / part / f"{job.case}.nii.gz"
        _write_nifti(file, array, study.spacing_zyx_mm, origin, orientation)
    text = json.dumps(truth, ensure_ascii=False, indent=1)
    (job.folder / "truth" / f"{job.case}.json").write_text(text, encoding="utf-8")
    return truth | {GRADE_COLUMN: grade_of(study)}


def grade_of(study: PhantomStudy) -> Grade | None:
    """The grade that a phantom is given, by its largest nodule; None without one, or if calcified.

    Ground glass under 12 mm is AAH, other ground glass AIS; part-solid with a solid part of up to
    8 mm is MIA; other part-solid and all solid nodules are IAC. Made up: a patient's grade is what
    the pathologist finds, and the usual limit of about 5 mm would leave AAH and MIA to few of the
    demo's nodules, which begin at 8 mm.
    """
    nodules = [lesion for lesion in study.lesions if lesion.finding.name == "nodule"]
    if not nodules:
        return None
    largest = max(nodules, key=lambda lesion: lesion.size_mm)
    if largest.density == "ground-glass":
        return "AAH" if largest.size_mm < 12 else "AIS"
    if largest.density == "part-solid":
        return "MIA" if largest.share * largest.size_mm <= 8 else "IAC"
    return "IAC" if largest.density == "solid" else None


def study_truth(study: PhantomStudy, rendered: Rendered) -> dict[str, Any]:
    """What is really in a study, ready for JSON.

    findings: fields of `reports.schema.Finding`. lesions: for each finding in the same order its
    centre_zyx (voxel index in the house's orientation: a nodule's centre, else the middle of the
    mask), slice_z (where it is largest), volume_ml of its mask, size_mm (unrounded), hu, and bit.
    """
    mask, region = rendered.lesion_zyx.numpy(), rendered.region_zyx.numpy()
    return {
        "seed": list(study.seed) if isinstance(study.seed, tuple) else study.seed,
        "spacing_zyx_mm": list(study.spacing_zyx_mm),
        "shape_zyx": list(study.shape_zyx),
        "findings": [asdict(lesion.finding) for lesion in study.lesions],
        "lesions": [_lesion_truth(study, lesion, mask, region) for lesion in study.lesions],
    }


def _lesion_truth(
    study: PhantomStudy, lesion: Lesion, mask: NDArray[np.uint8], region: NDArray[np.uint8]
) -> dict[str, Any]:
    own = lesion_voxels(lesion.finding, lesion.bit, mask, region)
    area = own.sum((1, 2))
    if lesion.finding.name == "nodule":
        centre = study.index_zyx(lesion.centre_zyx_mm)
    else:
        z, y, x = (float(axis.mean()) for axis in np.nonzero(own))
        centre = (z, y, x)
    millilitres = float(own.sum()) * float(np.prod(study.spacing_zyx_mm)) / 1000
    return {
        "centre_zyx": [round(c, 2) for c in centre],
        "slice_z": int(area.argmax()),
        "volume_ml": round(millilitres, 2),
        "size_mm": round(lesion.size_mm, 2),
        "hu": round(lesion.hu, 1),
        "bit": lesion.bit,
    }


def lesion_voxels(
    finding: Finding, bit: int, mask: NDArray[np.uint8], region: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """One finding's voxels, apart from those of the same kind elsewhere."""
    if finding.lobe is not None:
        place = LOBES.index(finding.lobe) + 1
    else:
        place = 6 if finding.side == "right" else 7
    voxels: NDArray[np.bool_] = (((mask >> bit) & 1) == 1) & (region == place)
    return voxels


def _write_nifti(
    file: Path,
    array_zyx: NDArray[Any],
    spacing_zyx_mm: tuple[float, float, float],
    origin: NDArray[np.float64],
    orientation: str,
) -> None:
    """Write with axes turned to `orientation`; same array, spacing and origin, same space."""
    sitk: Any = importlib.import_module("SimpleITK")  # half a second, and untyped

    image = sitk.GetImageFromArray(array_zyx)
    image.SetSpacing(spacing_zyx_mm[::-1])
    # ITK's axes point left, back and up; the house's right, front and up.
    image.SetDirection((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
    image.SetOrigin(origin.tolist())
    try:
        turned = sitk.DICOMOrient(image, orientation)
        sitk.WriteImage(turned, str(file), useCompression=True, compressionLevel=1)
    except RuntimeError as error:
        raise DataError(
            "the phantom's file cannot be written",
            file=file,
            fix="choose a folder with room and write access",
        ) from error


def _table(
    jobs: list[_Job], truths: list[dict[str, Any]], language: Language
) -> list[dict[str, str]]:
    """Rows of one language with rubbish among them; RUBBISH and ANSWER_BEFORE say which."""
    which = list(TABLES).index(language)
    rows = []
    for job, truth in zip(jobs, truths, strict=True):
        rng = job.rng(TEXT, which + 1)
        questions = QUESTIONS[language]
        report = write_report([Finding(**f) for f in truth["findings"]], language, rng)
        rows.append(
            {
                "case_id": job.case,
                "patient_id": job.patient_id,
                # Eleven digits, as a mobile phone's number has: cleaning must leave it alone.
                "accession": str(13_000_000_000 + (job.index * 7919 + job.seed) % 10**9),
                "image_path": truth["image"],
                "question": questions[int(rng.integers(len(questions)))],
                "answer": format_report(report),
                GRADE_COLUMN: truth[GRADE_COLUMN] or "",
            }
        )
    return add_rubbish(rows, _rng(jobs[0].seed, TABLE, 2 + which), language)


def _write_tables(folder: Path, tables: dict[Language, list[dict[str, str]]]) -> None:
    import pandas as pd

    from ctscribe.tables.csv_file import write_table

    for language, rows in tables.items():
        write_table(pd.DataFrame(without_truth(rows)), folder / TABLES[language])
    rubbish = {
        TABLES[language]: [
            {
                "row": i,
                "case_id": row["case_id"],
                "kind": row[RUBBISH],
                "before": row[ANSWER_BEFORE],
            }
            for i, row in enumerate(rows)
            if row[RUBBISH]
        ]
        for language, rows in tables.items()
    }
    text = json.dumps(rubbish, ensure_ascii=False, indent=1)
    (folder / "rubbish.json").write_text(text, encoding="utf-8")
