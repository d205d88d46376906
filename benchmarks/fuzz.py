"""Fuzz every parser of foreign data: nothing may come out but a result or a typed error.

    pip install atheris
    python benchmarks/fuzz.py --seconds 600

atheris mutates small sound files, guided by the branches that they reach. Formats that are packed
(gzip, zip) are mutated before they are packed, or only the unpacker would ever be reached. Each
parser runs in a process of its own; what breaks one is kept. Writes results/fuzz.json; parsers that
a run leaves out with --only keep what is written there.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULT = HERE / "results" / "fuzz.json"
PAUSE_S, MEMORY_MB = 25, 6000  # an input may take no longer and no more
Parse = Callable[[bytes, Path], None]
Seeds = Callable[[Path], Iterator[bytes]]
TARGETS: dict[str, tuple[Parse, Seeds]] = {}


def target(name: str, seeds: Seeds) -> Callable[[Parse], Parse]:
    """Add a parser: `parse(data, folder)` writes data into the empty folder and reads it."""

    def add(parse: Parse) -> Parse:
        TARGETS[name] = (parse, seeds)
        return parse

    return add


def _small() -> Any:
    import numpy as np

    from ctscribe.imaging.volume import Volume

    array = np.arange(6 * 8 * 8, dtype=np.int16).reshape(6, 8, 8) * 7 - 1000
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-10, 5, 3)
    return Volume(array, (3.0, 2.0, 2.0), affine)


def _images(*endings: str) -> Seeds:
    def seeds(folder: Path) -> Iterator[bytes]:
        from ctscribe.imaging.nifti import write_volume

        for number, ending in enumerate(endings):
            file = folder / f"seed{ending}"
            write_volume(_small(), file)
            yield bytes([number]) + file.read_bytes()

    return seeds


@target("nifti", _images(".nii", ".nii"))
def _nifti(data: bytes, folder: Path) -> None:
    from ctscribe.imaging.nifti import read_volume

    name, content = ("ct.nii", data[1:]) if data[:1] < b"\x80" else ("ct.nii.gz", data[1:])
    if data[:1] >= b"\xc0":
        content = gzip.compress(content, 1)
    (folder / name).write_bytes(content)
    read_volume(folder / name)


@target("nrrd-and-meta", _images(".nrrd", ".mha"))
def _nrrd(data: bytes, folder: Path) -> None:
    from ctscribe.imaging.nifti import read_volume

    file = folder / ("ct.nrrd", "ct.mha")[data[0] % 2 if data else 0]
    file.write_bytes(data[1:])
    read_volume(file)


def _dicom_seeds(folder: Path) -> Iterator[bytes]:
    from ctscribe.phantom.dicom import JPEG_2000, JPEG_LOSSLESS, RLE, write_enhanced, write_series

    yield _slices()[2]
    for syntax in (RLE, JPEG_2000, JPEG_LOSSLESS):
        yield write_series(_small(), folder / syntax, syntax=syntax)[2].read_bytes()
    yield write_enhanced(_small(), folder / "enhanced.dcm").read_bytes()
    for file in sorted((HERE.parent.parent / "shared/data/dicom_encodings").glob("*.dcm")):
        data = file.read_bytes()
        if len(data) < 60_000:
            yield data


@cache
def _slices() -> list[bytes]:
    """A sound series, of which one file is mutated."""
    from ctscribe.phantom.dicom import write_series

    with tempfile.TemporaryDirectory() as folder:
        return [file.read_bytes() for file in write_series(_small(), Path(folder))]


@target("dicom", _dicom_seeds)
def _dicom(data: bytes, folder: Path) -> None:
    from ctscribe.imaging.dicom import choose_series, read_series, scan_files, studies

    files = [folder / f"{number}.dcm" for number in range(len(_slices()))]
    for number, (file, sound) in enumerate(zip(files, _slices(), strict=True)):
        file.write_bytes(data if number == 2 else sound)
    for group in studies(scan_files(files)):
        choose_series(group)
        for series in group:
            _quiet(lambda s=series: read_series(s))


def _zip_seeds(folder: Path) -> Iterator[bytes]:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", method) as archive:
            archive.writestr("检查/a.dcm", b"abc" * 20)
            archive.writestr("b/c.dcm", b"")
        yield packed.getvalue()


@target("zip", _zip_seeds)
def _zip(data: bytes, folder: Path) -> None:
    from ctscribe.intake.archive import unpack

    (folder / "a.zip").write_bytes(data)
    (folder / "out").mkdir()
    unpack(folder / "a.zip", folder / "out")


def _csv_seeds(_: Path) -> Iterator[bytes]:
    text = (
        "case_id,patient_id,image_path,question,answer,roi_mm,grade\n"
        'A1,P1,ct.nii.gz,,"右肺上叶结节，约8mm。\n结论：结节。","1,2,3;4,5,6",MIA\nA2,P2,b.nii,q,a,,\n'
    )
    for encoding in ("utf-8-sig", "gb18030", "utf-16"):
        yield text.encode(encoding)


@target("csv", _csv_seeds)
def _csv(data: bytes, folder: Path) -> None:
    from ctscribe.tables.clean import NEEDED, CleanOptions, clean_table
    from ctscribe.tables.manifest import load_rows, read_table

    (folder / "rows.csv").write_bytes(data)
    _quiet(lambda: load_rows(folder / "rows.csv", check_images=False))
    frame = read_table(folder / "rows.csv", required=NEEDED)
    options = CleanOptions(drop_generic_only=True, thorax_only=True, drop_missing_paths=True)
    clean_table(frame, options, folder)


def _workbook_parts(folder: Path) -> dict[str, bytes]:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["检查号", "患者ID", "所见", "结论"])
    sheet.append(["CT001", "P1", "右肺上叶结节", "结节"])
    sheet.append([1.5e15, "P2", "=A1&B1", None])
    sheet.merge_cells("B2:B3")
    book.save(folder / "book.xlsx")
    with zipfile.ZipFile(folder / "book.xlsx") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _excel_seeds(folder: Path) -> Iterator[bytes]:
    for number, part in enumerate(sorted(_workbook_parts(folder).items())):
        yield bytes([number]) + part[1]
    yield b"\xff" + (folder / "book.xlsx").read_bytes()


@target("excel", _excel_seeds)
def _excel(data: bytes, folder: Path) -> None:
    """The first byte says which part of the workbook is mutated; 255: the zip itself."""
    from ctscribe.tables.examine import examine_workbook

    parts = _workbook_parts(folder)
    file = folder / "mutated.xlsx"
    if data[:1] == b"\xff":
        file.write_bytes(data[1:])
    else:
        name = sorted(parts)[(data[0] if data else 0) % len(parts)]
        with zipfile.ZipFile(file, "w") as archive:
            for part, content in parts.items():
                archive.writestr(part, data[1:] if part == name else content)
    examine_workbook(file)


_LIDC = """<LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader/><readingSession>
<unblindedReadNodule><noduleID>1</noduleID><characteristics><subtlety>5</subtlety>
<malignancy>4</malignancy></characteristics><roi/></unblindedReadNodule></readingSession>
</LidcReadMessage>"""
_CT_RATE = "VolumeName,Findings_EN,Impressions_EN\ntrain_1_a_1.nii.gz,A nodule of 8 mm.,Nodule.\n"


def _public_seeds(_: Path) -> Iterator[bytes]:
    yield b"\0" + _LIDC.encode()
    yield b"\1" + _CT_RATE.encode()
    yield b"\2study_findings: A mass.\ndiscussion: Rare."


@target("public-sets", _public_seeds)
def _public(data: bytes, folder: Path) -> None:
    """The first byte says which set's text is mutated: LIDC, CT-RATE, M3D-Cap."""
    from ctscribe.imaging.nifti import write_volume
    from ctscribe.intake.public import read_dataset

    kind = data[0] % 3 if data else 0
    layout, file = (
        ("lidc", folder / "LIDC-IDRI-0001/1.2/3.1/069.xml"),
        ("ct-rate", folder / "dataset/radiology_text_reports/train_reports.csv"),
        ("m3d-cap", folder / "M3D_Cap/ct_case/000007/text.txt"),
    )[kind]
    file.parent.mkdir(parents=True)
    file.write_bytes(data[1:])
    (file.parent / "000001.dcm").write_bytes(b"x")
    write_volume(_small(), file.parent / "Axial.nii.gz")
    read_dataset(folder, layout)  # type: ignore[arg-type]


def _text_seeds(_: Path) -> Iterator[bytes]:
    sentences = json.loads((HERE.parent / "tests/reports/sentences.json").read_text("utf-8"))
    for row in sentences:
        yield row["text"].encode()
    yield "报告医师：张三 2024-01-05 电话13912345678 Findings: 8x6 mm nodule".encode()


@target("reports", _text_seeds)
def _reports(data: bytes, folder: Path) -> None:
    from ctscribe.reports.deidentify import deidentify
    from ctscribe.reports.labeller import label_report, statements
    from ctscribe.reports.normalise import normalise
    from ctscribe.reports.sections import format_report, parse_report
    from ctscribe.tables.text import tidy

    text = data.decode("utf-8", "surrogateescape")
    statements(text)
    label_report(text)
    format_report(parse_report(text))
    normalise(deidentify(tidy(text)))


def _quiet(act: Callable[[], object]) -> None:
    from ctscribe.errors import CtscribeError

    try:
        act()
    except CtscribeError:
        return


def fuzz(name: str, corpus: Path, seconds: int) -> None:
    """Fuzz one parser in this process; returns only through libFuzzer's exit."""
    import atheris

    with atheris.instrument_imports(include=["ctscribe", "pydicom", "openpyxl"]):
        parse, seeds = TARGETS[name]
        scratch = Path(tempfile.mkdtemp(prefix="fuzz-", dir=corpus.parent))
        for number, seed in enumerate(seeds(scratch)):
            (corpus / f"seed{number:04}").write_bytes(seed)
            _quiet(lambda s=seed: _once(parse, s, scratch))  # imports what the parser imports

    def one(data: bytes) -> None:
        _quiet(lambda: _once(parse, data, scratch))

    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={seconds}",
            f"-timeout={PAUSE_S}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-artifact_prefix={corpus.parent}/",
            "-max_len=70000",
            "-print_final_stats=1",
            str(corpus),
        ],
        one,
    )
    atheris.Fuzz()


def _once(parse: Parse, data: bytes, scratch: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    try:
        parse(data, folder)
    finally:
        shutil.rmtree(folder)


def run(name: str, seconds: int, keep: Path) -> dict[str, Any]:
    """Fuzz one parser in a child; what it ran and found."""
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    (folder / "corpus").mkdir()
    command = [sys.executable, __file__, "--only", name, "--seconds", str(seconds)]
    start = time.perf_counter()
    with (folder / "log").open("wb") as log:
        done = subprocess.run(
            [*command, "--corpus", str(folder / "corpus")], stdout=log, stderr=log, check=False
        )
    log_text = (folder / "log").read_text(encoding="utf-8", errors="replace")
    runs = re.search(r"number_of_executed_units:\s*(\d+)", log_text)
    found = [f for f in folder.iterdir() if f.name.startswith(("crash-", "timeout-", "oom-"))]
    if done.returncode or found:
        keep.mkdir(parents=True, exist_ok=True)
        for file in [*found, folder / "log"]:
            shutil.copy(file, keep / f"{name}-{file.name}")
    shutil.rmtree(folder)
    return {
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "inputs": int(runs[1]) if runs else 0,
        "found": len(found) or done.returncode,
    }


def main() -> None:
    """Fuzz each parser, two at a time, and write what was found."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--seconds", type=int, default=600, help="for each parser")
    arguments.add_argument("--only", help="comma-separated, of " + ", ".join(TARGETS))
    arguments.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--keep", type=Path, default=Path("outputs/fuzz"))
    arguments.add_argument("--out", type=Path, default=RESULT)
    given = arguments.parse_args()
    if given.corpus:
        fuzz(given.only, given.corpus, given.seconds)
    from concurrent.futures import ThreadPoolExecutor

    import torch
    from machine import machine

    from ctscribe.files import write_atomically

    names = given.only.split(",") if given.only else list(TARGETS)
    with ThreadPoolExecutor(2) as pool:
        results = dict(
            zip(names, pool.map(lambda n: run(n, given.seconds, given.keep), names), strict=True)
        )
    known = json.loads(given.out.read_text("utf-8"))["parsers"] if given.out.is_file() else {}
    record = {
        "date": time.strftime("%Y-%m-%d"),
        **machine(torch.device("cpu"), ("atheris", "pydicom", "SimpleITK", "openpyxl", "pandas")),
        "parsers": {name: (known | results).get(name) for name in TARGETS},
    }
    for name, result in results.items():
        print(f"{name:14} {result}")
    write_atomically(given.out, (json.dumps(record, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
