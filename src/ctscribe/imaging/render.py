"""Axial slices as PNG for pages, the way radiologists look at them: from the patient's feet.

Patient right on the viewer's left, front up. The house's x grows to the patient's right and y to
the front, so both image axes are reversed; nothing else ever is. matplotlib is loaded on first use.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctscribe.imaging.volume import Volume

LUNG_WINDOW_HU = (-1350.0, 150.0)
SOFT_WINDOW_HU = (-160.0, 240.0)


@dataclass(frozen=True)
class Circle:
    """A ring to draw: centre in RAS+ mm (x, y, z) and radius in mm; the slice is not checked."""

    centre_xyz_mm: tuple[float, float, float]
    radius_mm: float


def slice_png(
    volume: Volume,
    z_index: int,
    *,
    contour: NDArray[Any] | Circle | None = None,
    window_hu: tuple[float, float] = LUNG_WINDOW_HU,
    width_px: int = 420,
    crop: tuple[slice, slice] | None = None,
    colour: str = "#ffb000",
) -> str:
    """One axial slice as base64 PNG, pixels square in mm.

    contour: a mask (Z, Y, X) or (Y, X) to outline, or a Circle. crop: the (y, x) part to show.
    Raises IndexError for a slice that is not there, ValueError for a mask on another grid.
    """
    depth, height, width = volume.array_zyx.shape
    if not 0 <= z_index < depth:
        raise IndexError(f"slice {z_index} of {depth}")
    ys, xs = crop or (slice(0, height), slice(0, width))
    y0, y1, _ = ys.indices(height)
    x0, x1, _ = xs.indices(width)
    _, dy, dx = volume.spacing_zyx_mm
    wide_mm, high_mm = (x1 - x0) * dx, (y1 - y0) * dy

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Ellipse

    figure = Figure(figsize=(width_px / 100, width_px / 100 * high_mm / wide_mm), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(
        volume.array_zyx[z_index, y0:y1, x0:x1],
        cmap="gray",
        vmin=window_hu[0],
        vmax=window_hu[1],
        interpolation="bilinear",
        origin="lower",
        aspect="auto",
        extent=(x0 - 0.5, x1 - 0.5, y0 - 0.5, y1 - 0.5),
    )
    # Axes run in voxel indices: x from right to left puts the patient's right at the viewer's left.
    axes.set_xlim(x1 - 0.5, x0 - 0.5)
    axes.set_ylim(y0 - 0.5, y1 - 0.5)
    if isinstance(contour, Circle):
        index = np.linalg.inv(volume.affine) @ [*contour.centre_xyz_mm, 1.0]
        size = (2 * contour.radius_mm / dx, 2 * contour.radius_mm / dy)
        ring = Ellipse(
            (float(index[0]), float(index[1])), *size, fill=False, edgecolor=colour, linewidth=1.4
        )
        axes.add_patch(ring)
    elif contour is not None:
        mask = contour[z_index] if contour.ndim == 3 else contour
        if mask.shape != (height, width):
            raise ValueError(f"the contour is {mask.shape}, the slice {(height, width)}")
        # A frame of zeros, so that a mask at the edge is outlined there too.
        framed = np.pad((mask > 0).astype(np.float32), 1)
        if framed.any():
            x, y = np.arange(-1, width + 1), np.arange(-1, height + 1)
            axes.contour(x, y, framed, levels=[0.5], colors=[colour], linewidths=1.4)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return base64.b64encode(out.getvalue()).decode("ascii")


def three_planes(
    volume: Volume,
    *,
    z_index: int | None = None,
    window_hu: tuple[float, float] = (-1000.0, 400.0),
    width_px: int = 240,
) -> tuple[str, str, str]:
    """An axial, a coronal and a sagittal slice through the middle, as `slice_png` makes them.

    Axial and coronal have the patient's right on the viewer's left; sagittal has the front there.
    Head and front are up. z_index: of the axial slice, the middle one if left out.
    """
    array, (dz, dy, dx) = volume.array_zyx, volume.spacing_zyx_mm
    z, y, x = array.shape
    turned = (  # each plane's own axes last, in the order of `slice_png`
        (volume, z // 2 if z_index is None else z_index),
        (Volume(array.transpose(1, 0, 2), (dy, dz, dx), volume.affine), y // 2),
        (Volume(array.transpose(2, 0, 1), (dx, dz, dy), volume.affine), x // 2),
    )
    axial, coronal, sagittal = (
        slice_png(plane, at, window_hu=window_hu, width_px=width_px) for plane, at in turned
    )
    return axial, coronal, sagittal
