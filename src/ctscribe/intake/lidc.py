"""LIDC-IDRI: chest CT with up to four radiologists' readings of nodules, without reports.

The Cancer Imaging Archive (annotation as pylidc and others read it):
  LIDC-IDRI-0001/<study>/<series>/000001.dcm ...  and  069.xml beside the slices
The XML is a LidcReadMessage of http://www.nih.gov: a readingSession each reader, in it an
unblindedReadNodule each nodule, with noduleID, characteristics (from 3 mm on) and contours.
Plain films of the same patients have an IdriReadMessage, or no XML, and are no CT.

There is no report, so `answer` stays empty: nothing is written that nobody said. Slices must be
volumes first: one .nii.gz in the series' folder, or in --images under the name of the series'
folder or of the patient.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from ctscribe.intake.dataset import Dataset, Record

PATIENT = re.compile(r"LIDC-IDRI-\d{4}")
CHARACTERISTICS = (
    *("subtlety", "internalStructure", "calcification", "sphericity", "margin"),
    *("lobulation", "spiculation", "texture", "malignancy"),
)
_NIH = "{http://www.nih.gov}"
_MOST_BYTES = 64 << 20
_ENDINGS = (".nii.gz", ".nii")


def patients_of(folder: Path) -> list[Path]:
    """The folders of its patients."""
    found = [p for p in (folder, *folder.glob("*"), *folder.glob("*/*")) if p.is_dir()]
    return sorted(p for p in found if PATIENT.fullmatch(p.name))


def read_lidc(folder: Path, images: Path | None = None) -> Dataset:
    """A row for each CT series that is a volume and has readings; answers are empty."""
    data = Dataset()
    for patient in patients_of(folder):
        series = sorted({f.parent for f in patient.rglob("*") if f.suffix.lower() == ".dcm"})
        # A patient's own name means a series only if there is one.
        alone = sum(bool(_readings(s, "LidcReadMessage")[0]) for s in series) == 1
        for at in series:
            data.images += 1
            item, case = at.relative_to(folder).as_posix(), f"{patient.name}_{at.name}"
            files, broken = _readings(at, "LidcReadMessage")
            data.reports += len(files) + len(broken)
            for file, reason in broken:
                name = file.relative_to(folder).as_posix()
                data.reject("reports", name, case, "unreadable", reason)
            code, reason, volume = _volume(at, patient.name if alone else "", images)
            if len(files) != 1:
                code = "report-conflict" if files else "unmatched"
                reason = (
                    f"{len(files)} readings stand beside it"
                    if files
                    else "no readings of a CT stand beside it (a plain film?)"
                )
            if code or volume is None:
                data.reject("images", item, case, code, reason)
                for file, _ in files:
                    name = file.relative_to(folder).as_posix()
                    data.reject("reports", name, case, code, f"its series: {reason}")
                continue
            extra = {"series": at.name, **labels_of(files[0][1])}
            data.records.append(Record(case, patient.name, volume, "", extra))
    data.notes.append("the set has no reports: answers are empty, the readings are columns")
    return data


def labels_of(root: ElementTree.Element) -> dict[str, str]:
    """Readers, nodules that they outlined, and each characteristic as it was read, by `;`."""
    sessions = root.findall(f"{_NIH}readingSession")
    nodules = [n for session in sessions for n in session.findall(f"{_NIH}unblindedReadNodule")]
    with_characteristics = [
        found for n in nodules if len(found := n.findall(f"{_NIH}characteristics/*"))
    ]
    labels = {
        "readers": str(len(sessions)),
        "nodule_readings": str(len(with_characteristics)),
        "small_nodule_readings": str(len(nodules) - len(with_characteristics)),
    }
    for name in CHARACTERISTICS:
        values = [
            (element.text or "").strip()
            for elements in with_characteristics
            for element in elements
            if element.tag == f"{_NIH}{name}"
        ]
        labels[f"label_{name.lower()}"] = ";".join(values)
    return labels


def _readings(
    series: Path, message: str
) -> tuple[list[tuple[Path, ElementTree.Element]], list[tuple[Path, str]]]:
    """XML files beside the slices that are such a message, and those that cannot be read."""
    found, broken = [], []
    for file in sorted(series.glob("*.xml")):
        try:
            data = file.read_bytes() if file.stat().st_size <= _MOST_BYTES else b"<!DOCTYPE"
            if b"<!DOCTYPE" in data or b"\0" in data:
                raise ElementTree.ParseError("it is too large or declares a document type")
            root = ElementTree.fromstring(data)
        except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
            broken.append((file, f"it is no sound XML ({error})"))
            continue
        if root.tag == f"{_NIH}{message}":
            found.append((file, root))
    return found, broken


def _volume(series: Path, patient: str, images: Path | None) -> tuple[str, str, Path | None]:
    """The volume of a series, or code and reason why there is none."""
    beside = [f for f in sorted(series.iterdir()) if f.name.lower().endswith(_ENDINGS)]
    if images is not None and not beside:
        names = [name for name in (series.name, patient) if name]
        beside = [f for n in names for e in _ENDINGS if (f := images / f"{n}{e}").is_file()][:1]
    if len(beside) == 1:
        return "", "", beside[0]
    if beside:
        return "several-series", f"{len(beside)} volumes stand beside its slices", None
    reason = (
        "its slices are no volume yet: convert them to one .nii.gz in this folder, or to --images "
        "under the name of this folder"
    )
    return "missing", reason, None
