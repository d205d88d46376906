"""`ctscribe leaks`: whether parts that somebody divided already share what they must not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ctscribe.config import LeaksConfig
from ctscribe.errors import ConfigError
from ctscribe.imaging.duplicates import equal_images
from ctscribe.tables.leaks import Leak, Part, check_leaks, refuse_leaks
from ctscribe.tables.manifest import Row, load_rows


def require_no_leaks(
    parts: Mapping[Part, Sequence[Row]], *, allow_similar_reports: bool
) -> list[Leak]:
    """Look for patients, voxels and measured reports in two parts; print every one.

    Returns the similar reports that were allowed. Raises DataError for any other, ImageError for
    images that cannot be read.
    """
    images = {row.image_path: row.case_id for rows in parts.values() for row in rows}
    leaks = check_leaks(parts, equal_images(images, bar=True))
    for leak in leaks:
        print(f"{leak.kind} in two parts: {leak}")
    refuse_leaks(leaks, allow_similar_reports=allow_similar_reports)
    return leaks


def run_leaks(config: LeaksConfig) -> list[Leak]:
    """Compare the given parts; raises DataError if they share what they must not."""
    files = {"train": config.train, "val": config.val, "test": config.test}
    parts = {part: load_rows(file) for part, file in files.items() if file is not None}
    if len(parts) < 2:
        raise ConfigError(
            "a leak is between two parts",
            fix="give two or three of --train, --val and --test",
        )
    leaks = require_no_leaks(parts, allow_similar_reports=config.allow_similar_reports)
    listed = ", ".join(f"{part} {len(rows)} rows" for part, rows in parts.items())
    print(
        f"{listed}: no patient and no image stands in two of them, and "
        + (f"{len(leaks)} pairs of similar reports were allowed" if leaks else "no report")
    )
    return leaks
