"""What `import-dicom` does in child processes: headers to facts, one series to one image.

Files are of unknown origin, so nothing here runs in the user's own process (see `sandbox`).
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID

import ctscribe
from ctscribe.errors import DataError, ImageError
from ctscribe.imaging.checks import ChestCheck, check_chest
from ctscribe.imaging.dicom import Scan, Series, read_series, scan_files
from ctscribe.imaging.nifti import write_volume
from ctscribe.imaging.slices import slice_fault
from ctscribe.problems import KINDS, Problem
from ctscribe.tables.pseudonym import Identity

REMOVED = "[removed]"
_STANDARD = "1.2.840.10008."  # UIDs of the standard say nothing of a patient
_IDENTITY = ("PatientID", "PatientName", "PatientBirthDate")
_PRIVATE_KEYWORDS = {
    "AccessionNumber",
    "AdmissionID",
    "DetectorID",
    "DeviceSerialNumber",
    "FillerOrderNumberImagingServiceRequest",
    "InstitutionAddress",
    "InstitutionName",
    "InstitutionalDepartmentName",
    "IssuerOfPatientID",
    "MilitaryRank",
    "Occupation",
    "OtherPatientIDs",
    "PatientAddress",
    "PatientID",
    "PatientTelephoneNumbers",
    "PlacerOrderNumberImagingServiceRequest",
    "ReferringPhysicianAddress",
    "ReferringPhysicianTelephoneNumbers",
    "RequestedProcedureID",
    "ResponsibleOrganization",
    "ScheduledProcedureStepID",
    "StationName",
    "StudyID",
}


@dataclass(frozen=True)
class Facts:
    """What the first file of a series says beyond `Series`.

    private: strings that stand in its header and must not stand in anything that is written.
    content: a hash of the whole file, for series without UIDs.
    """

    identity: Identity = field(default_factory=Identity)
    model: str = ""
    kvp: str = ""
    private: tuple[str, ...] = field(default=(), repr=False)
    content: str = ""


@dataclass(frozen=True)
class Job:
    """One series to import: where the image goes, and what the sidecar shall say of it."""

    case: str
    series: Series
    facts: Facts
    image: Path
    any_region: bool


@dataclass(frozen=True)
class Imported:
    """What became of a job: the sidecar's content, and notes and warnings."""

    sidecar: dict[str, Any]
    problems: tuple[Problem, ...]


def look(files: Sequence[Path]) -> tuple[Scan, dict[Path, Facts]]:
    """`scan_files`, and the facts of each series by its first file."""
    scan = scan_files(files)
    return scan, {one.instances[0].file: facts_of(one.instances[0].file) for one in scan.series}


def facts_of(file: Path) -> Facts:
    """Read one header more closely; what cannot be read is empty, since the scan has judged it.

    An element that is damaged costs none of the others: a patient whose id were lost with it would
    become a second one. Raises DataError where the file is gone.
    """
    try:
        with file.open("rb") as handle:
            content = hashlib.file_digest(handle, "sha256").hexdigest()
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")  # they would quote values
            header = dcmread(file, stop_before_pixels=True, force=True)
            identity = Identity(*(_whole_text(header, keyword) for keyword in _IDENTITY))
            model, kvp = _text(header, "ManufacturerModelName"), _text(header, "KVP")
            private = tuple(sorted(_private(header), key=len, reverse=True))
    except OSError as error:
        raise DataError(
            f"it can no longer be read ({error.strerror or 'input error'})",
            file=file,
            fix="run it again when nothing writes to the folder",
            code="unreadable",
        ) from error
    except Exception:  # pydicom raises whatever a damaged header makes it raise
        return Facts(content=content)
    return Facts(identity, model, kvp, private, content)


def import_series(job: Job) -> Imported:
    """Read a series, see whether it shows a chest, and write it to `job.image`.

    Raises ImageError with a code: whatever `read_series` and `slice_fault` name, `blank`,
    `no-chest`.
    """
    with _Notes() as remarks:
        read = read_series(job.series, case=job.case)
        between = slice_fault(read.volume.array_zyx)
        if between is not None:
            raise ImageError(
                between.detail,
                case=job.case,
                code=between.code,
                fix=KINDS[between.code].fix_en,
            )
        check = check_chest(read.volume)
    _judge(check, job)
    write_volume(read.volume, job.image)
    first = job.series.instances[0]
    sidecar = {
        "case_id": job.case,
        "modality": job.series.modality,
        "shape_zyx": list(read.volume.array_zyx.shape),
        "spacing_zyx_mm": list(read.volume.spacing_zyx_mm),
        "slice_step_mm": read.volume.spacing_zyx_mm[0],
        "slice_thickness_mm": job.series.thickness_mm,
        "n_slices": job.series.n_slices,
        "kernel": job.series.kernel,
        "kvp": job.facts.kvp,
        "manufacturer": job.series.manufacturer,
        "model": job.facts.model,
        "transfer_syntax": first.pixels.syntax,
        "transfer_syntax_name": UID(first.pixels.syntax).name,
        "lossy": any(one.pixels.lossy for one in job.series.instances),
        "chest": {
            "plausible": check.ok,
            "lung_litres_right_left": list(check.lung_litres),
            "lung_height_mm": check.height_mm,
            "remarks": [reason.en for reason in (*check.reasons, *check.notes)],
        },
        "notes": [
            *({"code": p.code, "detail": p.detail} for p in read.problems),
            *({"code": "", "detail": remark} for remark in remarks.said),
        ],
        "software": f"ctscribe {ctscribe.__version__}",
    }
    return Imported(_scrubbed(sidecar, job), read.problems)


def scrub(text: str, series: Sequence[Series], facts: Sequence[Facts]) -> str:
    """A text without file names, and without what headers hold of the patient.

    Names of files and folders are often patients' names. Short strings stay, since every number
    would go with a patient of id 1.
    """
    for one in series:
        if str(one.folder) in text or any(i.file.name in text for i in one.instances):
            for number, file in enumerate(sorted({i.file for i in one.instances}), 1):
                text = text.replace(str(file), f"file {number}").replace(
                    file.name, f"file {number}"
                )
            text = text.replace(str(one.folder), "its folder")
    for fact in facts:
        for word in fact.private:
            text = text.replace(word, REMOVED)
    return text


def _judge(check: ChestCheck, job: Job) -> None:
    blank = any(reason.code == "blank" for reason in check.reasons)
    if check.ok or (job.any_region and not blank):
        return
    reasons = "; ".join(reason.en for reason in check.reasons)
    raise ImageError(
        reasons if blank else f"no plausible chest CT: {reasons}",
        case=job.case,
        code="blank" if blank else "no-chest",
        fix="export it again"
        if blank
        else "give a CT of the whole chest, or pass --any-region to import it all the same",
    )


def _scrubbed(value: Any, job: Job) -> Any:
    if isinstance(value, str):
        return scrub(value, [job.series], [job.facts])
    if isinstance(value, dict):
        return {key: _scrubbed(held, job) for key, held in value.items()}
    return [_scrubbed(held, job) for held in value] if isinstance(value, list) else value


def _private(header: Dataset) -> set[str]:
    """Strings of a header that identify somebody, long enough to be told from other text."""
    found: set[str] = set()
    for element in _elements(header):
        uid = element.VR == "UI"
        if not (uid or element.VR in ("PN", "DA", "DT") or element.keyword in _PRIVATE_KEYWORDS):
            continue
        values = element.value if element.VM > 1 else [element.value]
        for text in (str(value).strip() for value in values if value):
            if uid and text.startswith(_STANDARD):
                continue
            parts = {text}
            if element.VR == "PN":
                for group in text.split("="):  # 张^三 is written 张三 elsewhere
                    words = group.replace("^", " ").split()
                    parts |= {*words, "".join(words), " ".join(words)}
            found |= {part for part in parts if len(part) >= (4 if part.isascii() else 2)}
    return found


def _elements(header: Dataset) -> Iterator[DataElement]:
    """All that can be read, those of sequences too."""
    for tag in list(header.keys()):
        try:
            element = header[tag]
        except Exception:  # as above
            continue
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)


def _whole_text(header: Dataset, keyword: str) -> str:
    """A text, and its bytes where they are in another encoding than the header says.

    What replaces characters that cannot be read would make one person of several.
    """
    raw = getattr(header.get_item(keyword), "value", None)
    text = _text(header, keyword)
    return f"{text} {raw.hex()}" if "\ufffd" in text and isinstance(raw, bytes) else text


def _text(header: Dataset, keyword: str) -> str:
    try:
        value = header.get(keyword)
    except Exception:  # as above
        return ""
    return "" if value is None else str(value).replace("\0", "").strip()


class _Notes(logging.Handler):
    """Keeps what readers would log: they name the folder, which may be a patient's name."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []
        self.logger = logging.getLogger("ctscribe.imaging")

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())

    def __enter__(self) -> _Notes:
        self.logger.addHandler(self)
        self.before, self.logger.propagate = self.logger.propagate, False
        return self

    def __exit__(self, *_: object) -> None:
        self.logger.removeHandler(self)
        self.logger.propagate = self.before
