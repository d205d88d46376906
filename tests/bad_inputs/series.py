"""Bad inputs 11 to 21: DICOM series and archives of them."""

from __future__ import annotations

import stat
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ctscribe.imaging.volume import Volume
from ctscribe.phantom.dicom import (
    Study,
    write_dicomdir,
    write_dose_report,
    write_localizer,
    write_secondary_capture,
    write_series,
)
from tests.bad_inputs.faults import variant

ENTRIES, ENTRY_BYTES = 8, 64 << 20  # of a zip bomb: half a GiB in half a MiB


def study_of(folder: Path, patient: str = "P1") -> Study:
    """A study of its own for each folder, so that no two bad inputs share a UID."""
    return Study(seed=int(folder.name[-2:], 36) + 1000 * len(folder.name), patient_id=patient)


def write(folder: Path, ct: Volume, **how: object) -> list[Path]:
    how = {"study": study_of(folder), **how}
    return write_series(ct, folder, **how)  # type: ignore[arg-type]


# ------------------------------------------------------------------------ 11 to 15: slices


@variant(11, "slopes", "slope-varies", "slopes from 1 to 2", loads=True)
def _slopes(folder: Path, ct: Volume) -> Volume:
    even = replace(ct, array_zyx=ct.array_zyx // 2 * 2)
    write(folder, even, slopes=((1.0, -1024.0), (2.0, -1024.0)))
    return even


@variant(11, "intercepts", "slope-varies", "intercepts from -1024 to 0", loads=True)
def _intercepts(folder: Path, ct: Volume) -> Volume:
    write(folder, ct, slopes=((1.0, -1024.0), (1.0, 0.0)))
    return ct


@variant(11, "one-lost", "not-hu", r"jump between slices \(20 to 21 by")
def _one_intercept_lost(folder: Path, ct: Volume) -> None:
    def lose(data: Dataset, at: int) -> None:
        if at == 20:
            data.RescaleIntercept = float(data.RescaleIntercept) + 1024

    write(folder, ct, change=lose)


@variant(12, "repeated", "slices-missing", "21 and 22 are equal")
def _repeated(folder: Path, ct: Volume) -> None:
    """A decoder that failed gives what its buffer still held."""
    array = ct.array_zyx.copy()
    array[21] = array[20]
    write(folder, replace(ct, array_zyx=array))


@variant(12, "one", "slices-missing", "1 slice is missing of")
def _one_missing(folder: Path, ct: Volume) -> None:
    write(folder, ct, skip=(20,))


@variant(12, "several", "slices-missing", "4 slices are missing")
def _several_missing(folder: Path, ct: Volume) -> None:
    write(folder, ct, skip=(10, 30, 31, 32))


@variant(13, "moved", "uneven-slices", "mm")
def _moved(folder: Path, ct: Volume) -> None:
    write(folder, ct, shift_mm={20: 0.45 * ct.spacing_zyx_mm[0]})


@variant(13, "two-steps", "uneven-slices", "steps between its slices")
def _two_steps(folder: Path, ct: Volume) -> None:
    half, step = len(ct.array_zyx) // 2, ct.spacing_zyx_mm[0]
    shift = {at: 0.3 * step * (at - half) for at in range(half, len(ct.array_zyx))}
    write(folder, ct, shift_mm=shift)


@variant(14, "tilt", "gantry-tilt", r"12\.\d degrees")
def _tilt(folder: Path, ct: Volume) -> None:
    write(folder, ct, tilt_deg=12.0)


@variant(15, "equal", "slices-duplicate", "1 slice", loads=True)
def _equal(folder: Path, ct: Volume) -> Volume:
    files = write(folder, ct)
    (folder / "copy of CT0020.dcm").write_bytes(files[20].read_bytes())
    return ct


@variant(15, "conflicting", "slices-conflict", "differ in")
def _conflicting(folder: Path, ct: Volume) -> None:
    write(folder, ct)
    other = ct.array_zyx.copy()
    other[20] += 3
    skip = [at for at in range(len(other)) if at != 20]
    write(folder, replace(ct, array_zyx=other), skip=skip, name="other{:04d}.dcm")


# ------------------------------------------------------------------- 16 to 20: files mixed in


@variant(16, "localizer", "left-out", "(?i)localizer|scout|topogram", loads=True)
def _localizer(folder: Path, ct: Volume) -> Volume:
    write(folder, ct)
    write_localizer(folder, study=study_of(folder))
    return ct


@variant(16, "capture", "left-out", "(?i)secondary|capture|screen", loads=True)
def _capture(folder: Path, ct: Volume) -> Volume:
    write(folder, ct)
    write_secondary_capture(folder, study=study_of(folder))
    return ct


@variant(16, "dose-report", "left-out", "(?i)dose|SR|report", loads=True)
def _dose(folder: Path, ct: Volume) -> Volume:
    write(folder, ct)
    write_dose_report(folder, study=study_of(folder))
    return ct


@variant(17, "two-series", "several-series", "best of 2", loads=True)
def _two_series(folder: Path, ct: Volume) -> None:
    write(folder, ct, name="soft{:04d}.dcm")
    sharp = replace(ct, array_zyx=ct.array_zyx + np.int16(7))
    write(
        folder, sharp, number=2, kernel="B70f", description="Chest 1.0 B70f", name="sharp{:04d}.dcm"
    )


@variant(17, "two-patients", "several-patients", "2", loads=True)
def _two_patients(folder: Path, ct: Volume) -> None:
    write(folder, ct, name="one{:04d}.dcm")
    other = replace(ct, array_zyx=ct.array_zyx + np.int16(9))
    write(folder, other, study=study_of(folder, "P2"), name="two{:04d}.dcm")


@variant(18, "unsupported", "syntax-unsupported", "MPEG")
def _unsupported(folder: Path, ct: Volume) -> None:
    for file in write(folder, ct):
        _retag(file, "1.2.840.10008.1.2.4.100")


@variant(18, "lossy", "syntax-lossy", "loss", loads=True)
def _lossy(folder: Path, ct: Volume) -> Volume:
    write(folder, ct, tags={"LossyImageCompression": "01"})
    return ct


@variant(18, "lossy-by-ratio", "syntax-lossy", "loss", loads=True)
def _lossy_by_ratio(folder: Path, ct: Volume) -> Volume:
    write(folder, ct, tags={"LossyImageCompressionRatio": "12"})
    return ct


def _retag(file: Path, syntax: str) -> None:
    """Another transfer syntax in the file's meta header, the rest as it is."""
    from pydicom import dcmread

    meta = dcmread(file, stop_before_pixels=True).file_meta
    old = str(meta.TransferSyntaxUID)
    data = file.read_bytes()
    at = data.index(old.encode())
    field = struct.unpack_from("<H", data, at - 2)[0]
    new = syntax.encode().ljust(len(syntax) + len(syntax) % 2, b"\0")
    group = struct.unpack_from("<L", data, 140)[0] + len(new) - field
    data = data[:140] + struct.pack("<L", group) + data[144:]
    file.write_bytes(data[: at - 2] + struct.pack("<H", len(new)) + new + data[at + field :])


@variant(19, "one-slice", "blank", "1 of")
def _blank_slice(folder: Path, ct: Volume) -> None:
    def zeros(data: Dataset, at: int) -> None:
        if at == 33:
            data.PixelData = bytes(len(data.PixelData))

    write(folder, ct, change=zeros)


@variant(19, "half-a-slice", "blank", "whole rows of slice 34")
def _half_blank(folder: Path, ct: Volume) -> None:
    def zeros(data: Dataset, at: int) -> None:
        if at == 33:
            half = len(data.PixelData) // 4 * 2
            data.PixelData = data.PixelData[:half] + bytes(len(data.PixelData) - half)

    write(folder, ct, change=zeros)


@variant(19, "all", "blank", "of")
def _all_blank(folder: Path, ct: Volume) -> None:
    def zeros(data: Dataset, at: int) -> None:
        data.PixelData = bytes(len(data.PixelData))

    write(folder, ct, change=zeros)


@variant(20, "mz", "executable-preamble", "MZ")
def _mz(folder: Path, ct: Volume) -> None:
    write(folder, ct, preamble=b"MZ\x90\0" + bytes(124))


@variant(20, "elf", "executable-preamble", "ELF")
def _elf(folder: Path, ct: Volume) -> None:
    write(folder, ct, preamble=b"\x7fELF\2\1\1" + bytes(121))


@variant(20, "dicomdir", "dicomdir-outside", "1")
def _dicomdir(folder: Path, ct: Volume) -> None:
    write(folder, ct)
    write_dicomdir(folder, [("CT0000.dcm",), ("..", "..", "SECRET")])


# --------------------------------------------------------------------------- 21: archives


def zipped(folder: Path, ct: Volume, **how: object) -> Path:
    """The series as one zip, and nothing beside it."""
    inside = folder / "inside"
    archive = folder / "study.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for file in write_series(ct, inside, study=study_of(folder), **how):  # type: ignore[arg-type]
            packed.write(file, f"检查 1/{file.name}")
            file.unlink()
    inside.rmdir()
    return archive


@variant(21, "slip", "zip-unsafe-name", "leads out")
def _slip(folder: Path, ct: Volume) -> None:
    with zipfile.ZipFile(zipped(folder, ct), "a") as packed:
        packed.writestr("../../outside.dcm", b"harm")


@variant(21, "absolute", "zip-unsafe-name", "absolute")
def _absolute(folder: Path, ct: Volume) -> None:
    with zipfile.ZipFile(zipped(folder, ct), "a") as packed:
        packed.writestr("/etc/outside.dcm", b"harm")


@variant(21, "reserved", "zip-unsafe-name", "reserves")
def _reserved(folder: Path, ct: Volume) -> None:
    with zipfile.ZipFile(zipped(folder, ct), "a") as packed:
        packed.writestr("检查 1/CON.dcm", b"harm")


@variant(21, "link", "zip-unsafe-name", "link")
def _link(folder: Path, ct: Volume) -> None:
    with zipfile.ZipFile(zipped(folder, ct), "a") as packed:
        info = zipfile.ZipInfo("link.dcm")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(info, "/etc/passwd")


@variant(21, "bomb", "zip-bomb", "times its size")
def _zip_bomb(folder: Path, ct: Volume) -> None:
    zeros = bytes(ENTRY_BYTES)
    with zipfile.ZipFile(folder / "study.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for number in range(ENTRIES):
            packed.writestr(f"{number}.dcm", zeros)


@variant(21, "lying", "unreadable", "CRC|declares")
def _lying(folder: Path, ct: Volume) -> None:
    """The directory declares ten bytes of an entry that unpacks to a megabyte."""
    archive = folder / "study.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.dcm", bytes(1 << 20))
    data = bytearray(archive.read_bytes())
    struct.pack_into("<L", data, data.index(b"PK\1\2") + 24, 10)
    struct.pack_into("<L", data, 22, 10)
    archive.write_bytes(data)
