"""A small hospital share: two patients, three studies, and everything else that lies there."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from ctscribe.intake.import_dicom import import_studies
from ctscribe.intake.import_options import ImportOptions
from ctscribe.intake.import_result import ImportResult
from ctscribe.phantom.dicom import (
    Study,
    write_dose_report,
    write_localizer,
    write_secondary_capture,
    write_series,
)
from ctscribe.tables.csv_file import read_table
from tests.imaging.bodies import body

NAME = "张三丰"
ONE = Study(
    seed=1,
    patient_id="ZY00481516",
    patient_name="Zhang^Sanfeng=张^三丰",
    accession="CT2024-000815",
    date="20240229",
    tags={
        "SpecificCharacterSet": "GB18030",
        "PatientName": "Zhang^Sanfeng=张^三丰",
        "InstitutionName": "青山医院",
        "ReferringPhysicianName": "李^时珍",
        "DeviceSerialNumber": "SN-77341-X",
        "ManufacturerModelName": "SOMATOM Phantom",
        "KVP": "120",
    },
)
AGAIN = Study(**{**vars(ONE), "seed": 2, "accession": "CT2024-000999", "date": "20240701"})
TWO = Study(seed=3, patient_id="ZY00990099", patient_name="Wang^Wu", accession="CT2024-000777")

SECRETS = (
    *("ZY00481516", "Sanfeng", "三丰", "青山医院", "时珍", "SN-77341-X", "20240229", "19600101"),
    *("CT2024-000815", "CT2024-000999", "CT2024-000777", "ZY00990099", "Wang", ONE.uid, TWO.uid),
    *("20240701", NAME),
)


def write_share(folder: Path) -> Path:
    """Patient one with two studies, of which one has all that is left out; patient two."""
    own = folder / f"{NAME} 胸部CT"
    chest = body().volume
    for name in ("SC", "SR"):
        (own / name).mkdir(parents=True)
    write_series(chest, own / "IM", study=ONE, number=2, name=f"{NAME}_{{:04d}}.dcm")
    write_localizer(own / "IM", study=ONE)
    write_secondary_capture(own / "SC", study=ONE)
    write_dose_report(own / "SR", study=ONE)
    (own / "SC" / "readme.txt").write_text("no DICOM")
    write_series(body(seed=1).volume, folder / "later", study=AGAIN, number=2)
    write_series(body(seed=2).volume, folder / "two", study=TWO, number=2)
    return folder


def digest(folder: Path) -> dict[str, str]:
    """Every file and its hash."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def leaks(folder: Path, secrets: Iterable[str] = SECRETS) -> list[tuple[str, str]]:
    """Secrets in names or bytes of files, unpacked where they are packed, in three encodings."""
    found = []
    for file in folder.rglob("*"):
        data = str(file.relative_to(folder)).encode()
        if file.is_file():
            data += file.read_bytes()
        if file.suffix == ".gz":
            data += gzip.decompress(file.read_bytes())
        for secret in secrets:
            if any(secret.encode(code) in data for code in ("utf-8", "gb18030", "utf-16-le")):
                found.append((file.name, secret))
    return found


class RawName(zipfile.ZipInfo):
    """An entry whose name is these bytes, whatever they are, without a flag that says utf-8."""

    def __init__(self, name: bytes) -> None:
        super().__init__(name.decode("latin-1"))
        self.raw = name

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802
        return self.raw, self.flag_bits & ~0x800


def quiet(options: ImportOptions) -> tuple[ImportResult, str]:
    """Run, and what it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        result = import_studies(options)
    return result, said.getvalue()


def close(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """As if this user might not open a folder; administrators may open any."""
    scandir = os.scandir

    def scan(path: str | int) -> object:
        if not isinstance(path, int) and Path(path) == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    patch.setattr(os, "scandir", scan)


class Imported:
    """A share, imported once for all tests that only look."""

    def __init__(self, folder: Path) -> None:
        self.source = write_share(folder / "share")
        self.salt = folder / "secret" / "salt"
        self.salt.parent.mkdir()
        self.salt.write_bytes(bytes(range(32)))
        self.before = digest(self.source)
        self.options = ImportOptions(source=self.source, salt_file=self.salt, workers=1)
        self.result, self.said = quiet(self.options)
        self.out = folder / "share_ctscribe"
        self.cases = read_table(self.out / "cases.csv").set_index("accession")
