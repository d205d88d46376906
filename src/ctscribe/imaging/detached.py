"""Headers whose voxels lie in another file (.mhd, .nrrd): it must lie beside them.

ITK would open whatever path a header names, so that a file of unknown origin could bring in any
other one of this machine, or the voxels of another patient.
"""

from __future__ import annotations

import re
from pathlib import Path

MOST_HEADER_BYTES = 1 << 20
_META = re.compile(rb"^\s*ElementDataFile\s*[=:]?\s*(.*?)\s*$", re.IGNORECASE | re.MULTILINE)
_NRRD = re.compile(rb"^\s*data ?file\s*:\s*(.*?)\s*$", re.IGNORECASE | re.MULTILINE)


def detached_fault(path: Path) -> str | None:
    """Why the voxels that a MetaImage or NRRD names are not read, None where nothing is against it.

    Raises OSError.
    """
    with path.open("rb") as file:
        start = file.read(MOST_HEADER_BYTES).replace(b"\r", b"")
    if path.name.lower().endswith(".nrrd"):
        named = _NRRD.findall(start.partition(b"\n\n")[0])
    else:
        named = _META.findall(start)
        if not named:
            return "its header does not say where its voxels are (ElementDataFile)"
        if named[0].upper() == b"LOCAL":  # what follows are voxels
            return None
    for name in named:
        if re.match(rb"LIST\b", name, re.IGNORECASE) or b"%" in name:
            return "its header says that the voxels lie in several files"
        if re.search(rb"[/\\:]|^\.*$", name):  # no path, no drive, no stream
            return "its header says that the voxels lie in another folder"
    return None
