"""`ctscribe contours`: what a mask marks, as a table of nodules in mm and a picture of each.

```
nodules.csv              one row a nodule, see `COLUMNS`
nodules.json             the same figures, with the ends of each diameter in mm
label1_nodule1.png       one picture a nodule, see `overlay.py`
```
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctscribe.errors import ConfigError, DataError, ImageError
from ctscribe.files import write_atomically
from ctscribe.resolve import require
from ctscribe.settings import Config, setting

if TYPE_CHECKING:
    from ctscribe.imaging.nodules import Nodule
    from ctscribe.imaging.volume import Volume

TABLE, RECORD = "nodules.csv", "nodules.json"
# The centroid stands there in RAS+ mm and as voxel index in the house's axes: z up, y to the front,
# x to the right, each from 0.
COLUMNS = (
    *("label", "name", "component", "volume_mm3", "volume_ml", "longest_diameter_mm"),
    *("axial_diameter_mm", "perpendicular_mm", "centroid_x_mm", "centroid_y_mm", "centroid_z_mm"),
    *("side", "hu_mean", "hu_min", "hu_max", "hu_sd", "voxels", "index_z", "index_y", "index_x"),
    *("slice_z", "touches_border", "overlay"),
)
MIN_MM3_HELP = "Leave out components smaller than this."
LABELS_HELP = "JSON with the labels' names: nnU-Net's dataset.json."


@dataclass(frozen=True)
class ContoursOptions(Config):
    """`ctscribe contours IMAGE`."""

    section = "contours"

    image: Path | None = setting(None, "Chest CT: NIfTI, NRRD or MHA, in HU.")
    mask: Path | None = setting(None, "Mask on the image's grid, a whole number a label.")
    output_dir: Path = setting(Path("outputs/contours"), "Folder for table and pictures.")
    labels: Path | None = setting(None, LABELS_HELP)
    min_mm3: float = setting(0.0, MIN_MM3_HELP, low=0, high=1_000_000)


def run_contours(config: ContoursOptions) -> list[Nodule]:
    """Measure every component of every label; write table and pictures, and print the table.

    Raises ImageError: image or mask unreadable, on different grids, or nothing is marked.
    """
    from ctscribe.imaging.nifti import read_mask, read_volume

    image, mask = require(config, "image"), require(config, "mask")
    names = {} if config.labels is None else read_label_names(config.labels)
    volume = read_volume(image)
    labels = read_mask(mask, like=volume)
    if not labels.any():
        raise ImageError(
            "the mask is empty: every voxel is 0",
            file=mask,
            fix="give a mask that marks something with whole numbers from 1 on",
        )
    return write_contours(
        volume, labels, config.output_dir, names=names, min_mm3=config.min_mm3, image=image
    )


def write_contours(
    volume: Volume,
    labels_zyx: Any,
    folder: Path,
    *,
    names: Mapping[int, str],
    min_mm3: float,
    image: Path,
) -> list[Nodule]:
    """Everything that `ctscribe contours` writes and prints, for a mask that may be empty.

    Pictures of an earlier run in `folder` are replaced, those it had more of deleted.
    """
    from rich.progress import track

    from ctscribe.imaging.nodules import find_nodules
    from ctscribe.imaging.overlay import write_overlay

    nodules, too_small = find_nodules(volume, labels_zyx, names=names, min_mm3=min_mm3)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("label*_nodule*.png"):
            old.unlink()
        for nodule in track(nodules, "pictures", transient=True, disable=len(nodules) < 2):
            write_overlay(volume, nodule, folder / overlay_name(nodule))
        rows = [_row(nodule) for nodule in nodules]
        write_atomically(folder / TABLE, _csv(rows))
        record = {
            "image": image.name,
            "spacing_zyx_mm": volume.spacing_zyx_mm,
            "shape_zyx": volume.array_zyx.shape,
            "min_mm3": min_mm3,
            "left_out": too_small,
            "nodules": [
                {**row, "ends_mm": _ends(nodule, volume)}
                for nodule, row in zip(nodules, rows, strict=True)
            ],
        }
        text = json.dumps(record, indent=1, ensure_ascii=False)
        write_atomically(folder / RECORD, text.encode())
    except OSError as error:
        raise DataError(
            f"it cannot be written ({error.strerror})",
            file=error.filename or folder,
            fix="close it in other programs, or choose another --output-dir",
        ) from error
    _print(nodules, too_small, min_mm3, folder)
    return nodules


def read_label_names(file: Path) -> dict[int, str]:
    """Names by label from nnU-Net's dataset.json, version 1 or 2.

    Of labels that stand for several (regions), each has the value that nnU-Net writes for it.
    Raises ConfigError if the file is none.
    """
    try:
        return label_names(json.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"it holds no labels ({error})",
            file=file,
            fix='give nnU-Net\'s dataset.json, with "labels": {"background": 0, "nodule": 1}',
        ) from error


def label_names(dataset: Mapping[str, Any]) -> dict[int, str]:
    """Names by label from the content of dataset.json; see `read_label_names`."""
    labels: dict[str, Any] = dataset["labels"]
    if all(key.isdigit() for key in labels):  # version 1: {"0": "background"}
        return {int(key): str(name) for key, name in labels.items() if int(key)}
    named = {name: value for name, value in labels.items() if value != 0}
    if any(isinstance(value, list) for value in named.values()):
        named.pop("ignore", None)
        named = dict(zip(named, dataset["regions_class_order"], strict=True))
    return {int(value): name for name, value in named.items()}


def overlay_name(nodule: Nodule) -> str:
    """The file of a nodule's picture."""
    return f"label{nodule.label}_nodule{nodule.component}.png"


def _row(nodule: Nodule) -> dict[str, Any]:
    x_mm, y_mm, z_mm = (round(mm, 2) for mm in nodule.centroid_xyz_mm)
    z, y, x = (round(at, 2) for at in nodule.centroid_zyx)
    values = (
        *(nodule.label, nodule.name, nodule.component),
        *(round(nodule.volume_mm3, 2), round(nodule.volume_ml, 4)),
        *(round(d.mm, 2) for d in (nodule.longest, nodule.axial, nodule.perpendicular)),
        *(x_mm, y_mm, z_mm, nodule.side),
        *(round(hu, 1) for hu in (nodule.hu_mean, nodule.hu_min, nodule.hu_max, nodule.hu_sd)),
        *(nodule.voxels, z, y, x, nodule.slice_z, nodule.touches_border, overlay_name(nodule)),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """utf-8-sig, which Excel opens rightly."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode("utf-8-sig")


def _ends(nodule: Nodule, volume: Volume) -> dict[str, list[list[float]]]:
    """Both ends of each diameter in RAS+ mm (x, y, z)."""
    lines = {
        "longest": nodule.longest,
        "axial": nodule.axial,
        "perpendicular": nodule.perpendicular,
    }
    return {
        name: [
            [round(float(mm), 2) for mm in (volume.affine @ [x, y, z, 1.0])[:3]]
            for z, y, x in line.ends_zyx
        ]
        for name, line in lines.items()
    }


def _print(nodules: Sequence[Nodule], too_small: int, min_mm3: float, folder: Path) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(markup=False, highlight=False)  # [ ] in a label's name is no style
    figures = ("ml", "3D mm", "axial mm", "HU", "centre x, y, z mm")
    table = Table("label", "no.", *(Column(name, justify="right") for name in figures), "side")
    for n in nodules:
        table.add_row(
            n.name,
            str(n.component),
            f"{n.volume_ml:.3g}",
            f"{n.longest.mm:.1f}",
            f"{n.axial.mm:.1f} x {n.perpendicular.mm:.1f}",
            f"{n.hu_mean:.0f}",
            ", ".join(f"{mm:.1f}" for mm in n.centroid_xyz_mm),
            (n.side or "unknown") + (" (at the image's edge)" if n.touches_border else ""),
        )
    if nodules:
        console.print(table)
    lines = [f"{too_small} smaller than {min_mm3:g} mm3 left out"] if too_small else []
    lines += ["nothing is marked"] if not nodules and not too_small else []
    count = f"{len(nodules)} nodule{'' if len(nodules) == 1 else 's'}"
    print("; ".join([count, *lines, f"wrote {folder / TABLE}"]), flush=True)
