"""One nodule as a picture: three planes through it, outlined, with its diameters and figures.

The planes meet in the slice of the longest axial diameter. Radiological display: from the patient's
feet (axial), front (coronal) and left (sagittal), so that the patient's right is on the viewer's
left. All three share one scale. matplotlib is loaded on first use.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctscribe.files import replacing
from ctscribe.imaging.nodules import Bools, Nodule
from ctscribe.imaging.render import LUNG_WINDOW_HU
from ctscribe.imaging.volume import Volume

OUTLINE, LONG, SHORT = "#ffb000", "#1f9bff", "#ff4fa3"
TEXT, QUIET, FRAME, GROUND = "#f2f2f2", "#b5b8bc", "#3a3d42", "#101114"
FIELD_MM = 60.0  # least width of a panel
ROOM = 2.4  # a panel's width in nodules, so that what surrounds it is seen
SCALE_BARS_MM = (200, 100, 50, 20, 10, 5)


class Plane(NamedTuple):
    """A cut across one axis of a volume, seen so that its second axis grows to the viewer's left.

    across, up, left: axes, 0 z, 1 y, 2 x. letters: at the viewer's left, right, top and bottom.
    """

    across: int
    up: int
    left: int
    letters: str


PLANES = (
    Plane(0, 1, 2, "RLAP"),  # axial: right, left, anterior, posterior
    Plane(1, 0, 2, "RLHF"),  # coronal: head, feet
    Plane(2, 0, 1, "APHF"),  # sagittal
)


def write_overlay(volume: Volume, nodule: Nodule, path: Path) -> None:
    """Write the PNG (1500 x 640) of a nodule that was measured on `volume`.

    A name that is not ASCII is left to the tables: the font has no such letters.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 6.4), dpi=100, facecolor=GROUND)
    FigureCanvasAgg(figure)
    at = _cut(nodule)
    sizes = [n * mm for n, mm in zip(nodule.mask_zyx.shape, volume.spacing_zyx_mm, strict=True)]
    field = max(FIELD_MM, ROOM * max(sizes))
    for i, plane in enumerate(PLANES):
        axes = figure.add_axes((0.006 + i * 0.331, 0.02, 0.326, 0.764), facecolor="black")
        _draw(axes, volume, nodule, plane, at, field)
        if plane.across == 0:
            whole = axes.inset_axes((0.0, 0.0, 0.25, 0.25), facecolor="black")
            _show(whole, volume, plane, at)
            whole.invert_xaxis()
            whole.add_patch(_field(axes))
    for y, size, colour, line in zip(
        (0.945, 0.885, 0.825), (17, 13, 13), (TEXT, TEXT, QUIET), captions(nodule), strict=True
    ):
        figure.text(0.008, y, line, size=size, color=colour, va="center", parse_math=False)
    figure.text(0.992, 0.945, "not for clinical use", size=11, color=QUIET, va="center", ha="right")
    with replacing(path) as part:
        figure.savefig(part, format="png")


def captions(nodule: Nodule) -> tuple[str, str, str]:
    """The picture's three lines of text."""
    known = nodule.name != str(nodule.label) and nodule.name.isascii()
    named = f" ({nodule.name[:60]})" if known else ""
    side = f", {nodule.side}" if nodule.side else ""
    right, front, up = nodule.centroid_xyz_mm
    edge = "; reaches the image's edge: figures are lower bounds" if nodule.touches_border else ""
    return (
        f"label {nodule.label}{named}, component {nodule.component}{side}",
        f"{nodule.volume_ml:.3g} ml    longest in a slice {nodule.axial.mm:.1f} × "
        f"{nodule.perpendicular.mm:.1f} mm    longest in 3D {nodule.longest.mm:.1f} mm    "
        f"{nodule.hu_mean:.0f} ± {nodule.hu_sd:.0f} HU",
        f"centre {right:.1f}, {front:.1f}, {up:.1f} mm (right, front, up)    "
        f"slice {nodule.slice_z}, counted from 0 at the feet    "
        f"window {LUNG_WINDOW_HU[0]:.0f} to {LUNG_WINDOW_HU[1]:.0f} HU{edge}",
    )


def _cut(nodule: Nodule) -> tuple[int, int, int]:
    """Where the planes meet: of the nodule's voxels in its slice, that nearest to their middle."""
    z0, y0, x0 = nodule.start_zyx
    own = np.argwhere(nodule.mask_zyx[nodule.slice_z - z0])
    y, x = own[int(((own - own.mean(0)) ** 2).sum(1).argmin())]
    return nodule.slice_z, int(y) + y0, int(x) + x0


def _draw(
    axes: Any,
    volume: Volume,
    nodule: Nodule,
    plane: Plane,
    at: tuple[int, int, int],
    field_mm: float,
) -> None:
    """One panel. Its axes run in mm; voxel i reaches from i - 0.5 to i + 0.5 voxels."""
    from matplotlib.collections import LineCollection
    from matplotlib.patheffects import withStroke

    _show(axes, volume, plane, at)
    spacing, shown = volume.spacing_zyx_mm, (plane.left, plane.up)
    step = np.array([spacing[a] for a in shown])
    start = np.array([nodule.start_zyx[a] for a in shown])
    cut: Bools = np.moveaxis(nodule.mask_zyx, plane.across, 0)[
        at[plane.across] - nodule.start_zyx[plane.across]
    ]
    edges = (outline(cut) + start) * step
    axes.add_collection(LineCollection(list(edges), colors=OUTLINE, linewidths=1.6))
    if plane.across == 0:
        for line, colour in ((nodule.perpendicular, SHORT), (nodule.axial, LONG)):
            ends = np.array(line.ends_zyx)[:, list(shown)] * step
            axes.plot(*ends.T, color=colour, linewidth=1.6)
    else:
        axes.axhline(at[0] * spacing[0], color=QUIET, linewidth=0.9, linestyle=(0, (5, 7)))
    axes.set_aspect("equal", adjustable="box")
    sizes = np.array([nodule.mask_zyx.shape[a] for a in shown])
    u, v = (start + (sizes - 1) / 2) * step
    axes.set_xlim(u + field_mm / 2, u - field_mm / 2)
    axes.set_ylim(v - field_mm / 2, v + field_mm / 2)
    places = ((0.03, 0.5), (0.97, 0.5), (0.5, 0.965), (0.5, 0.035))
    for letter, (across, up) in zip(plane.letters, places, strict=True):
        _write(axes, across, up, letter, 14)
    bar = next(mm for mm in SCALE_BARS_MM if mm <= field_mm / 3)
    left, low = 0.955, 0.055
    axes.plot(
        [left - bar / field_mm, left],
        [low, low],
        color=TEXT,
        linewidth=3,
        transform=axes.transAxes,
        path_effects=[withStroke(linewidth=5, foreground="black")],
    )
    _write(axes, left - bar / field_mm / 2, low + 0.035, f"{bar} mm", 11)


def _show(axes: Any, volume: Volume, plane: Plane, at: tuple[int, int, int]) -> None:
    """The whole cut in lung window, axes in mm."""
    ends = [
        end * volume.spacing_zyx_mm[axis]
        for axis in (plane.left, plane.up)
        for end in (-0.5, volume.array_zyx.shape[axis] - 0.5)
    ]
    axes.imshow(
        np.moveaxis(volume.array_zyx, plane.across, 0)[at[plane.across]],
        cmap="gray",
        vmin=LUNG_WINDOW_HU[0],
        vmax=LUNG_WINDOW_HU[1],
        interpolation="bilinear",
        origin="lower",
        extent=ends,
    )
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color(FRAME)


def _field(axes: Any) -> Any:
    """What a panel shows, as a frame to draw on the whole slice."""
    from matplotlib.patches import Rectangle

    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    return Rectangle((right, low), left - right, high - low, fill=False, edgecolor=OUTLINE)


def outline(cut: Bools) -> NDArray[np.float64]:
    """Edges between what is marked and what is not, in a slice (rows, columns).

    (n, 2, 2): of each edge its two ends as (column, row); a voxel reaches 0.5 to either side.
    """
    framed = np.pad(cut, 1).astype(np.int8)
    edges = []
    for axis in (0, 1):  # 0: edges that lie between two rows
        at = np.argwhere(np.diff(framed, axis=axis))[:, ::-1] - 1.0
        at[:, 1 - axis] += 0.5
        along = np.array([0.5, 0.0] if axis == 0 else [0.0, 0.5])
        edges.append(np.stack([at - along, at + along], 1))
    return np.concatenate(edges)


def _write(axes: Any, across: float, up: float, text: str, size: int) -> None:
    """Words over an image of any brightness, placed in shares of the panel."""
    from matplotlib.patheffects import withStroke

    axes.text(
        across,
        up,
        text,
        size=size,
        color=TEXT,
        ha="center",
        va="center",
        transform=axes.transAxes,
        path_effects=[withStroke(linewidth=2.5, foreground="black")],
    )
