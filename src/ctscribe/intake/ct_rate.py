"""CT-RATE and RadGenome-ChestCT, whose sentences stand to CT-RATE's volumes.

CT-RATE (Hugging Face ibrahimhamamci/CT-RATE; columns as its authors' CT-CLIP reads them):
  dataset/train_fixed/train_1/train_1_a/train_1_a_1.nii.gz    patient, scan, reconstruction
  dataset/radiology_text_reports/*reports*.csv     VolumeName, Findings_EN, Impressions_EN, ...
  dataset/metadata/*metadata*.csv                  VolumeName, RescaleSlope, RescaleIntercept, ...
  dataset/multi_abnormality_labels/*labels*.csv    VolumeName and a column a finding
Volumes of `train` and `valid`, the first release, have neither orientation nor slope in their
headers (its discussion 58); `train_fixed` and `valid_fixed` have. The first are refused, as nobody
can see whether a header was repaired since.

RadGenome-ChestCT (Hugging Face RadGenome/RadGenome-ChestCT; columns as Reg2RG and its own code
read them):
  dataset/train_preprocessed/train_1/train_1_a/train_1_a_1.nii.gz
  dataset/radgenome_files/*region_report.csv      Volumename, Anatomy (empty: whole scan), Sentence
  dataset/train_region_mask/seg_train_1_a_1/lung.nii.gz
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from rich.progress import track

from ctscribe.imaging.nifti_file import BROKEN, open_nifti, read_header
from ctscribe.intake.dataset import Dataset, Record, tables_like

NAME = re.compile(r"(?P<study>(?P<patient>(?P<part>train|valid)_\d+)_[a-z]+)_\d+")
_FOLDERS = ("train_fixed", "valid_fixed", "train", "valid")
_PREPROCESSED = ("train_preprocessed", "valid_preprocessed")
_NOT_GIVEN = ("", "not given.", "not given", "nan")
_ENDING = ".nii.gz"
_LOOK_BYTES = 4 << 20  # some slices from the volume's end: there is air around the patient
_AIR_HU = -500.0


def read_ct_rate(folder: Path) -> Dataset:
    """A row for each reconstruction; those of one scan share its report.

    Raises DataError if there is no table of reports.
    """
    data = Dataset()
    columns = ("VolumeName", "Findings_EN", "Impressions_EN")
    rows = tables_like(folder, "*reports*.csv", columns, required=True)
    slopes = dict(_by_volume(tables_like(folder, "*metadata*.csv", ("RescaleSlope",))))
    labels = dict(_by_volume(tables_like(folder, "*labels*.csv", ("VolumeName",))))
    images = _images(folder, _FOLDERS, data)
    data.reports = len(rows)
    of_volume: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for place, cells in rows:
        of_volume.setdefault(_volume(cells["VolumeName"]), []).append((place, cells))
    for name, given in track(of_volume.items(), description="volumes"):
        (place, cells), *again = given
        answer = _answer(cells)
        if any(_answer(other) != answer for _, other in again):
            for at, other in given:
                reason = f"{len(given)} different reports of one volume"
                data.reject("reports", at, name, "report-conflict", reason, _answer(other))
            _reject_image(data, folder, images, name, "report-conflict", "its reports differ")
            continue
        for at, _ in again:
            data.reject("reports", at, name, "repaired", f"the same again as {place}", answer)
        if not answer:
            reason = "neither findings nor impression are given"
            data.reject("reports", place, name, "report-empty", reason)
            _reject_image(data, folder, images, name, "report-empty", f"its report: {reason}")
            continue
        image = images.pop(name, None)
        if image is None:
            reason = "no volume of this name can be used"
            data.reject("reports", place, name, "unmatched", reason, answer)
            continue
        fault = header_fault(image, slopes.get(name, {}))
        if fault is not None:
            code, reason = fault
            data.reject("images", image.relative_to(folder).as_posix(), name, code, reason)
            data.reject("reports", place, name, code, f"its volume: {reason}", answer)
            continue
        extra = _identity(name)
        for column, key in (
            ("ClinicalInformation_EN", "clinical_information"),
            ("Technique_EN", "technique"),
        ):
            extra[key] = _given(cells.get(column, ""))
        for finding, value in labels.get(name, {}).items():
            if finding != "VolumeName":
                extra[f"label_{'_'.join(finding.lower().split())}"] = value
        data.records.append(_record(name, image, answer, extra))
    for name in list(images):
        _reject_image(data, folder, images, name, "unmatched", "no report has this volume")
    return data


def read_radgenome(folder: Path) -> Dataset:
    """A row for each region of a volume, with its sentences and the mask of that region, if any.

    Its question names the region, so that the rows of a volume are told apart.

    Raises DataError if there is no table of regions.
    """
    data = Dataset()
    columns = ("Volumename", "Anatomy", "Sentence")
    rows = tables_like(folder, "*region_report.csv", columns, required=True)
    images = _images(folder, _PREPROCESSED, data)
    masks = {
        f"{file.parent.name.removeprefix('seg_')}/{file.name.removesuffix(_ENDING)}": file
        for file in sorted(folder.rglob(f"seg_*/*{_ENDING}"))
    }
    data.reports = len(rows)
    regions: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for place, cells in rows:
        name, region = _volume(cells["Volumename"]), _given(cells["Anatomy"])
        sentence = _given(cells["Sentence"])
        if sentence:
            of_name = regions.setdefault(name, {})
            of_name.setdefault(region, []).append((place, sentence))
        else:
            data.reject("reports", place, name, "report-empty", "there is no sentence")
    for name, of_region in track(regions.items(), description="volumes"):
        image = images.pop(name, None)
        fault = None if image is None else header_fault(image, {})
        if image is None or fault is not None:
            code, reason = fault or ("unmatched", "no volume of this name can be used")
            if image is not None:
                data.reject("images", image.relative_to(folder).as_posix(), name, code, reason)
                reason = f"its volume: {reason}"
            for place, sentence in (pair for given in of_region.values() for pair in given):
                data.reject("reports", place, name, code, reason, sentence)
            continue
        for region, given in of_region.items():
            answer = " ".join(dict.fromkeys(sentence for _, sentence in given))
            extra = {**_identity(name), "region": region}
            mask = masks.get(f"{name}/{region}")
            question = f"Describe the findings of this region: {region}." if region else ""
            data.records.append(_record(name, image, answer, extra, mask, len(given), question))
    for name in list(images):
        _reject_image(data, folder, images, name, "unmatched", "no sentence has this volume")
    return data


def header_fault(image: Path, metadata: dict[str, str]) -> tuple[str, str] | None:
    """Code and reason why a volume cannot be used as it is, from its header and its first slices.

    metadata: its row in the set's own table, which says what the header may lack. The whole volume
    is for `ctscribe check`.
    """
    try:
        with open_nifti(image) as file:
            header = read_header(file)
            order = _order(header.alone)
            q_code, s_code = struct.unpack_from(f"{order}2h", header.alone, 252)
            file.seek(header.offset)
            look = file.read(_LOOK_BYTES)
    except BROKEN as error:
        return "unreadable", str(error) or "it cannot be read"
    if q_code <= 0 and s_code <= 0:
        return "no-geometry", (
            "its header has no orientation, as in the set's first release: take the volumes of "
            "train_fixed and valid_fixed, or run the set's own fix_metadata.py"
        )
    import numpy as np

    size = header.dtype.itemsize
    stored = np.frombuffer(look[: len(look) // size * size], header.dtype).astype(np.float64)
    lowest = float(stored.min()) * header.slope + header.intercept if stored.size else 0.0
    if not lowest < _AIR_HU:  # NaN is not, either
        told = ""
        if metadata.get("RescaleIntercept"):
            slope, intercept = metadata.get("RescaleSlope", "?"), metadata["RescaleIntercept"]
            told = f"; the set's metadata has slope {slope} and intercept {intercept}"
        return "not-hu", (
            f"there is no air in its first slices (lowest value {lowest:g}), so slope and "
            f"intercept are not applied{told}: take train_fixed and valid_fixed, or run the set's "
            "own fix_metadata.py"
        )
    return None


def _order(header: bytes) -> str:
    return "<" if header[:4] == struct.pack("<i", 348) else ">"


def _images(folder: Path, folders: tuple[str, ...], data: Dataset) -> dict[str, Path]:
    """Volumes by name; a second file of a name and other names are rejected."""
    images: dict[str, Path] = {}
    files = [
        file
        for name in folders
        for part in sorted(p for p in folder.rglob(name) if p.is_dir())
        for file in sorted(part.rglob(f"*{_ENDING}"))
    ]
    for file in dict.fromkeys(files):
        data.images += 1
        name, item = file.name.removesuffix(_ENDING), file.relative_to(folder).as_posix()
        if NAME.fullmatch(name) is None:
            reason = "its name is not of the form train_1_a_1.nii.gz"
            data.reject("images", item, name, "left-out", reason)
        elif name in images:
            reason = f"{images[name].relative_to(folder).as_posix()} is taken"
            data.reject("images", item, name, "left-out", reason)
        else:
            images[name] = file
    return images


def _reject_image(
    data: Dataset, folder: Path, images: dict[str, Path], name: str, code: str, reason: str
) -> None:
    image = images.pop(name, None)
    if image is not None:
        data.reject("images", image.relative_to(folder).as_posix(), name, code, reason)


def _by_volume(rows: list[tuple[str, dict[str, str]]]) -> list[tuple[str, dict[str, str]]]:
    return [(_volume(c["VolumeName"]), c) for _, c in rows if c.get("VolumeName")]


def _volume(name: str) -> str:
    return name.removesuffix(_ENDING)


def _given(text: str) -> str:
    return "" if text.strip().lower() in _NOT_GIVEN else text.strip()


def _answer(cells: dict[str, str]) -> str:
    findings, impression = _given(cells["Findings_EN"]), _given(cells["Impressions_EN"])
    parts = (("Findings", findings), ("Impression", impression))
    return "\n".join(f"{heading}: {text}" for heading, text in parts if text)


def _identity(name: str) -> dict[str, str]:
    match = NAME.fullmatch(name)
    assert match is not None
    return {"study": match["study"], "split": "val" if match["part"] == "valid" else "train"}


def _record(
    name: str,
    image: Path,
    answer: str,
    extra: dict[str, str],
    mask: Path | None = None,
    report_rows: int = 1,
    question: str = "",
) -> Record:
    match = NAME.fullmatch(name)
    assert match is not None
    return Record(name, match["patient"], image, answer, extra, mask, report_rows, question)
