"""Which images hold the same voxels, whatever format, orientation or compression holds them."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from ctscribe.errors import ImageError
from ctscribe.files import default_cache_dir
from ctscribe.imaging import nifti, nifti_file, volume
from ctscribe.imaging.cache import RACY_NS, Cache

LISTED = 5  # unreadable images named in one error; the rest are counted


def equal_images(
    cases: Mapping[Path, str], *, cache: Path | None = None, workers: int = 0, bar: bool = False
) -> dict[Path, str]:
    """A key of each image's voxels (SHA-256, in the house's orientation), equal for equal images.

    cases: the case of each path, for errors. An image whose size no other one has is not read past
    its header, and has no key. Spacing is not asked, as a copy can have lost it. Keys of .nii and
    .nii.gz are kept in `cache` (default: the user's own cache folder) under path, size and time of
    change. workers: images read at once, each in memory whole; 0 is one a core, 8 at most. bar:
    show progress. Raises ImageError naming the images that cannot be read.
    """
    store = Cache(cache or default_cache_dir() / "voxels")
    workers = workers or min(8, os.cpu_count() or 1)
    # Sorted, sizes are the same however axes are turned.
    sizes = _each(
        lambda path: str(sorted(nifti.stored_size(path, case=cases[path]))),
        list(cases),
        workers,
        "headers read" if bar else "",
    )
    of_size: dict[str, list[Path]] = {}
    for path, size in sizes.items():
        of_size.setdefault(size, []).append(path)
    return _each(
        lambda path: voxel_sha256(path, case=cases[path], store=store),
        [path for group in of_size.values() if len(group) > 1 for path in group],
        workers,
        "images compared" if bar else "",
    )


def voxel_sha256(path: Path, *, case: str | None = None, store: Cache | None = None) -> str:
    """SHA-256 of an image's size and voxels in HU, as `read_volume` turns them; not of its spacing.

    Raises ImageError as `read_volume` does.
    """
    name, settled = "", False
    # In other formats the voxels may lie in another file, which would change unseen.
    if store is not None and path.name.lower().endswith((".nii", ".nii.gz")) and path.is_file():
        about = path.stat()
        looks = f"{os.path.abspath(path)} {about.st_size} {about.st_mtime_ns} {_code()}"
        name = hashlib.sha256(os.fsencode(looks)).hexdigest()
        if (known := store.read(name)) is not None:
            return known.decode()
        # What changed just now may change again without its time showing it.
        settled = about.st_mtime_ns < time.time_ns() - RACY_NS
    found = volume.voxels_sha256(nifti.read_volume(path, case=case))
    if store is not None and settled:
        store.write(name, found.encode())
    return found


def _each(
    work: Callable[[Path], str], paths: Sequence[Path], workers: int, title: str
) -> dict[Path, str]:
    """The result for each path; one ImageError for all paths that have none."""
    from rich.console import Console
    from rich.progress import track

    def attempt(path: Path) -> str | ImageError:
        try:
            return work(path)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        results = list(
            track(
                pool.map(attempt, paths),
                title,
                total=len(paths),
                console=Console(stderr=True),
                disable=not (title and paths),
            )
        )
    errors = [result for result in results if isinstance(result, ImageError)]
    if errors:
        first = errors[0]
        others = ", ".join(f"{e.case} ({e.file})" for e in errors[1:LISTED])
        more = f" and {len(errors) - LISTED} more" if len(errors) > LISTED else ""
        raise ImageError(
            first.reason
            + (f"; {len(errors)} images cannot be used: also {others}{more}" if others else ""),
            case=first.case,
            file=first.file,
            fix=first.fix,
            code=first.code,
        )
    return {path: str(result) for path, result in zip(paths, results, strict=True)}


@lru_cache
def _code() -> str:
    """SHA-256 of the code that decodes, so that no key made by other code is ever believed."""
    files = [Path(str(module.__file__)) for module in (nifti, nifti_file, volume)]
    files.append(Path(__file__))
    made_by = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return hashlib.sha256(" ".join([*made_by, version("SimpleITK")]).encode()).hexdigest()
