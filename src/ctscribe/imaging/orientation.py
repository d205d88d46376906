"""In which orientation a trained nnU-Net saw its images: not in its plans, so found out or asked.

nnU-Net reads files as they are stored. Most chest CTs come from DICOM and are stored LPS (x grows
to the left, y to the back, z to the head), but a converter may have flipped them.
"""

from __future__ import annotations

import importlib
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from ctscribe.errors import ConfigError

log = logging.getLogger(__name__)

DEFAULT = "LPS"
# nnU-Net's readers of medical images: the orientation that each turns to, None as stored.
READERS = {
    "SimpleITKIO": None,
    "NibabelIO": None,
    "SimpleITKIOWithReorient": "RAS",
    "NibabelIOWithReorient": "RAS",
}
LOOKED_AT = 200  # training images, evenly among all


def stored_orientation(file: Path) -> str:
    """Which way the axes x, y, z of an image file grow, such as LPS."""
    sitk: Any = importlib.import_module("SimpleITK")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.ReadImageInformation()
    direction = reader.GetDirection()[:9]
    letters: str = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(direction)
    return letters


def agreed_orientation(
    reader: str, images: Path | None, wanted: str | None, *, file: Path
) -> tuple[str, str]:
    """The orientation to turn images to, and in words where it comes from.

    reader: the plans' `image_reader_writer`. images: the folder of the training images, if there
    is one to check. wanted: the setting. file: the model, for errors.
    Raises ConfigError if two of them disagree, or the reader reads no medical images.
    """
    if reader not in READERS:
        raise ConfigError(
            f"its plans read images by {reader}, which is not for CTs",
            file=file,
            fix=f"use a model that was planned with one of {', '.join(READERS)}",
        )
    fixed = READERS[reader]
    if fixed is not None:
        _refuse_other(wanted, fixed, f"its reader, {reader}, turns every image to {fixed}", file)
        return fixed, f"the plans' reader, {reader}"
    counts = Counter() if images is None or not images.is_dir() else _counts(images)
    if not counts:
        return (wanted, "set") if wanted else (DEFAULT, "the default; not checked")
    listed = ", ".join(f"{n} {letters}" for letters, n in counts.most_common())
    if len(counts) > 1:
        if wanted is None:
            raise ConfigError(
                f"its training images are stored in several orientations ({listed})",
                file=images,
                fix=f"set the orientation: {counts.most_common(1)[0][0]} is the commonest",
            )
        log.warning("%s: training images are stored in several orientations (%s)", images, listed)
        return wanted, f"set; training images: {listed}"
    (found,) = counts
    _refuse_other(wanted, found, f"its training images are stored {found} ({images})", file)
    return found, f"all {counts.total()} training images looked at"


def _refuse_other(wanted: str | None, found: str, why: str, file: Path) -> None:
    if wanted is not None and wanted != found:
        raise ConfigError(
            f"orientation is set to {wanted}, but {why}",
            file=file,
            fix=f"leave it out, or give {found}",
        )


def _counts(images: Path) -> Counter[str]:
    files = sorted(f for f in images.iterdir() if f.is_file() and not f.name.startswith("."))
    step = max(1, len(files) // LOOKED_AT)
    found: Counter[str] = Counter()
    for file in files[::step]:
        try:
            found[stored_orientation(file)] += 1
        except RuntimeError as error:
            raise ConfigError(
                "the orientation of a training image cannot be read",
                file=file,
                fix="restore the file, or leave nnunet_raw empty",
            ) from error
    return found
