"""M3D-Cap: cases of a teaching site, as pictures.

Hugging Face GoodBaiBai88/M3D-Cap (its folder listing and its m3d_cap_data_prepare.py):
  ct_case/000014/Axial_non_contrast/0.png, 1.png, ...    also ct_quizze, .jpeg
  ct_case/000014/text.txt                                one report for all series of the case
  M3D_Cap_npy/ct_case/000014/Axial_non_contrast.npy      what that script makes of the pictures
text.txt ends in `study_findings:` and `discussion:`; the script keeps what follows the first of
them that says anything, and its own text.txt is that alone.

The pictures are 8-bit grey of an unknown window, without spacing: no HU can be had from them. Such
series are refused by name, their text kept in the rejected table. A series that somebody has as
NIfTI in HU (Axial_non_contrast.nii.gz beside or in place of its folder) is a row.
"""

from __future__ import annotations

from pathlib import Path

from ctscribe.intake.dataset import Dataset, Record

FOLDERS = ("ct_case", "ct_quizze")
_PICTURES = (".png", ".jpg", ".jpeg")
_LEAST = 5  # characters of a text that says anything, as in the set's own script


def cases_of(folder: Path) -> list[Path]:
    """The folders of its cases."""
    return [
        case
        for name in FOLDERS
        for parent in sorted(p for p in folder.rglob(name) if p.is_dir())
        for case in sorted(parent.iterdir())
        if case.is_dir()
    ]


def read_m3d_cap(folder: Path) -> Dataset:
    """A row for each series that is NIfTI; all others are rejected with the reason."""
    data = Dataset()
    for case in cases_of(folder):
        at, patient = case.relative_to(folder), f"{case.parent.name}_{case.name}"
        name = "_".join(at.parts)
        text = case / "text.txt"
        answer = report_of(text.read_text("utf-8", "replace")) if text.is_file() else ""
        volumes, pictures = _series(case)
        data.images += len(volumes) + len(pictures)
        for picture in pictures:
            reason = (
                "8-bit pictures of an unknown window, without HU or spacing, are no CT volume: "
                "give the series as NIfTI in HU"
            )
            data.reject("images", picture.relative_to(folder).as_posix(), name, "not-hu", reason)
        if text.is_file():
            data.reports += 1
            if not answer or not volumes:
                code, reason = (
                    ("unmatched", "no series of its case is a NIfTI volume")
                    if answer
                    else ("report-empty", "text.txt says nothing")
                )
                data.reject("reports", (at / "text.txt").as_posix(), name, code, reason, answer)
        for number, volume in enumerate(volumes):
            item = volume.relative_to(folder).as_posix()
            if not answer:
                reason = "text.txt says nothing" if text.is_file() else "there is no text.txt"
                data.reject("images", item, name, "unmatched", reason)
                continue
            series = volume.name.split(".nii")[0]
            extra = {"series": series}
            # The one text stands to all series of the case and counts once.
            row = Record(
                f"{name}_{series}", patient, volume, answer, extra, report_rows=int(number == 0)
            )
            data.records.append(row)
    return data


def report_of(text: str) -> str:
    """The report in a text.txt: its findings, else its discussion, else all of it."""
    for heading in ("study_findings:", "discussion:"):
        _, found, after = text.partition(heading)
        if heading == "study_findings:":
            after = after.partition("discussion:")[0]
        body = " ".join(after.split())
        if found and len(body.replace(" ", "")) >= _LEAST:
            return body
    has_heading = any(heading in text for heading in ("study_findings:", "discussion:"))
    return "" if has_heading else " ".join(text.split())


def _series(case: Path) -> tuple[list[Path], list[Path]]:
    """NIfTI files, and what holds pictures, of a case."""
    volumes, pictures = [], []
    for item in sorted(case.iterdir()):
        inside = list(item.iterdir()) if item.is_dir() else []
        volumes += [f for f in (item, *inside) if f.name.lower().endswith((".nii", ".nii.gz"))]
        if item.suffix.lower() == ".npy" or any(f.suffix.lower() in _PICTURES for f in inside):
            pictures.append(item)
    return volumes, pictures
