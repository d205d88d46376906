"""`ctscribe fetch-sample`: real chest CTs for tests and the demo's page, kept outside the project.

They are test files of the packages TotalSegmentator (Apache-2.0) and pyradiomics-bhklab (BSD-3);
the images themselves carry no separate statement. Each is fetched through pip from whatever index
the user has, and checked by SHA-256.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
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
                write_atomically(path, data)
    for path, (_, sha256) in paths.items():
        _check(path.read_bytes(), sha256, str(path))
    return list(paths)


def _download(package: str, version: str, folder: Path) -> Path:
    """The source archive of a package, from the user's own package index."""

    def offline(reason: str) -> DataError:
        return DataError(
            f"the sample CT could not be downloaded; {reason}",
            fix="connect to a package index and run ctscribe fetch-sample again, or copy "
            f"sample-{package}-{version} from another machine's cache to {default_cache_dir()}",
        )

    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--no-input", "--no-binary", package]
    command += ["--dest", str(folder), f"{package}=={version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise offline(f"pip did not finish ({error})") from error
    archives = sorted(folder.glob("*.tar.gz"))
    if done.returncode or len(archives) != 1:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        lines = lines or done.stderr.strip().splitlines() or ["no message"]
        raise offline(f"pip says: {lines[-1][:300]}")
    return archives[0]


def _member(archive: Path, member: str) -> bytes:
    """One file of the archive, in memory, so that nothing else is ever unpacked."""
    with tarfile.open(archive) as tar:
        root = tar.getnames()[0].split("/")[0]
        try:
            file = tar.extractfile(f"{root}/{member}")
        except KeyError:
            file = None
        if file is None:
            raise DataError(
                f"the package does not hold {member}",
                file=archive.name,
                fix="report this: the package index gave another archive than expected",
            )
        return file.read()


def _check(data: bytes, sha256: str, name: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DataError(
            f"the file is not the expected one (SHA-256 {found}, expected {sha256})",
            file=name,
            fix="delete it and run ctscribe fetch-sample again; do not use it",
        )
