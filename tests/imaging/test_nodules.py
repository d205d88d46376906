"""Nodules of known size, on any grid: figures within what the voxels allow, and never of a flip."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from ctscribe.errors import DataError, ImageError
from ctscribe.imaging.nifti import read_mask, read_volume
from ctscribe.imaging.nodules import Nodule, find_nodules, midline_x
from ctscribe.imaging.sample import TumourPaths, fetch_tumours
from ctscribe.imaging.volume import Volume
from tests.imaging.bodies import body

Array = NDArray[np.float64]


def volume_of(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> Volume:
    """Nothing but tissue, so without a midline, somewhere in space."""
    affine = np.diag([*spacing[::-1], 1.0])
    affine[:3, 3] = (-31.0, 17.0, 250.0)
    return Volume(np.zeros(shape, np.int16), spacing, affine)


def only(volume: Volume, mask: NDArray[np.bool_]) -> Nodule:
    (nodule,), _ = find_nodules(volume, mask.astype(np.uint8))
    return nodule


def in_mm(line: tuple[tuple[float, ...], ...], spacing: tuple[float, ...]) -> Array:
    return np.array(line) * spacing


@st.composite
def ellipsoids(draw: st.DrawFn) -> tuple[tuple[float, float, float], Array, Array, Array]:
    """Spacing, semi-axes and rotation (columns are axes), and where in a voxel the centre lies."""
    spacing = tuple(draw(st.floats(0.5, 5)) for _ in range(3))
    semi = np.array([draw(st.floats(4, 15)) for _ in range(3)])
    turn = Rotation.random(random_state=draw(st.integers(0, 10**6))).as_matrix()
    shift = np.array([draw(st.floats(-0.5, 0.5)) for _ in range(3)])
    return spacing, semi, turn, shift  # type: ignore[return-value]


@settings(max_examples=80, deadline=None)
@given(ellipsoids())
def test_ellipsoids_have_their_size_within_half_a_voxels_diagonal(case) -> None:
    spacing, semi, turn, shift = case
    half = float(np.linalg.norm(spacing)) / 2
    slack = half / semi.min()
    assume(slack < 0.8)
    counts = [int(np.ceil(2 * (semi.max() + 1) / mm)) + 3 for mm in spacing]
    centre = (np.array(counts) - 1) / 2 + shift
    grid = [(np.arange(n) - c) * mm for n, c, mm in zip(counts, centre, spacing, strict=True)]
    points = np.stack(np.meshgrid(*grid, indexing="ij"), -1) @ turn
    mask = ((points / semi) ** 2).sum(-1) <= 1
    assume(mask.any())
    volume = volume_of(tuple(counts), spacing)
    nodules, _ = find_nodules(volume, mask.astype(np.uint8))
    nodule = nodules[0]
    assert len(nodules) == 1
    assert not nodule.touches_border
    # Every voxel lies within half a diagonal of the ellipsoid, and covers all of a smaller one.
    true_mm3 = 4 / 3 * np.pi * semi.prod()
    assert (1 - slack) ** 3 * true_mm3 <= nodule.volume_mm3 <= (1 + slack) ** 3 * true_mm3
    longest = 2 * semi.max()
    assert (1 - slack) * longest <= nodule.longest.mm <= longest + 2 * half
    # The slice through the centre has the longest chord within any slice.
    in_slice = np.linalg.eigvalsh((turn @ np.diag(semi**-2.0) @ turn.T)[1:, 1:])
    axial = 2 / np.sqrt(in_slice.min())
    within = float(np.linalg.norm(spacing[1:])) / 2
    assert (1 - slack) * axial <= nodule.axial.mm <= axial + 2 * within
    assert nodule.perpendicular.mm <= 2 / np.sqrt(in_slice.max()) + 2 * within + slack * axial
    index = np.linalg.inv(volume.affine) @ [*nodule.centroid_xyz_mm, 1.0]
    np.testing.assert_allclose(index[:3][::-1], nodule.centroid_zyx, atol=1e-9)
    assert np.linalg.norm((np.array(nodule.centroid_zyx) - centre) * spacing) <= half


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.floats(0.05, 0.9), st.tuples(*[st.floats(0.4, 6) for _ in range(3)])
)
def test_lengths_are_those_of_all_corners_of_all_voxels(seed, share, spacing) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 6, 3)) < share
    assume(mask.any())
    for nodule in find_nodules(volume_of(mask.shape, spacing), mask.astype(np.uint8))[0]:
        at = np.argwhere(nodule.mask_zyx) + nodule.start_zyx
        steps = np.array(list(product((-0.5, 0.5), repeat=3)))
        corners = (at[:, None] + steps).reshape(-1, 3) * spacing
        assert nodule.longest.mm == pytest.approx(pdist(corners).max())
        of_slices = [
            (pdist(np.unique(c[:, 1:], axis=0)).max(), z)
            for z in np.unique(at[:, 0])
            for c in [(at[at[:, 0] == z][:, None] + steps).reshape(-1, 3) * spacing]
        ]
        assert nodule.axial.mm == pytest.approx(max(of_slices)[0])
        assert dict((z, mm) for mm, z in of_slices)[nodule.slice_z] == pytest.approx(
            nodule.axial.mm
        )
        check_lines(nodule, spacing)


def check_lines(nodule: Nodule, spacing: tuple[float, float, float]) -> None:
    """The drawn lines have the stated lengths; the short one is the greatest at a right angle."""
    for diameter in (nodule.longest, nodule.axial, nodule.perpendicular):
        ends = in_mm(diameter.ends_zyx, spacing)
        assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(diameter.mm)
    long, short = (in_mm(d.ends_zyx, spacing) for d in (nodule.axial, nodule.perpendicular))
    assert (long[:, 0] == short[:, 0]).all()
    along = (long[1] - long[0]) / nodule.axial.mm
    assert (short[1] - short[0]) @ along == pytest.approx(0, abs=1e-6)
    # Area between: chords are no longer than the short one, and the kite of both lies inside.
    area = nodule.mask_zyx[nodule.slice_z - nodule.start_zyx[0]].sum() * spacing[1] * spacing[2]
    assert nodule.perpendicular.mm * nodule.axial.mm >= area - 1e-6
    assert nodule.perpendicular.mm <= nodule.axial.mm + 1e-9


def test_a_known_outline_has_a_known_perpendicular() -> None:
    mask = np.zeros((3, 12, 24), bool)
    mask[1, 5, 2:22] = True  # 20 long, 1 high
    mask[1, 5:9, 10] = True  # and a stalk 3 high on it
    nodule = only(volume_of(mask.shape, (5.0, 1.0, 1.0)), mask)
    assert nodule.axial.mm == pytest.approx(np.hypot(20, 1))
    assert nodule.slice_z == 1
    across = np.array([-1, 20]) / np.hypot(20, 1)
    corners = np.array([(2, 5), (22, 5), (22, 6), (11, 9), (10, 9), (2, 6)]) - 0.5
    # Brute force: chords at a right angle through points all along the line, in the hull.
    from matplotlib.path import Path

    steps = np.linspace(-6, 6, 12001)
    best = 0.0
    for t in np.linspace(0, 1, 101):
        start = (1 - t) * corners[0] + t * corners[2]
        own = Path(corners).contains_points(start + np.outer(steps, across))
        best = max(best, float(np.ptp(steps[own])) if own.any() else 0.0)
    assert nodule.perpendicular.mm == pytest.approx(best, abs=0.05)


def test_one_voxel_has_its_own_diagonals() -> None:
    mask = np.zeros((5, 5, 5), bool)
    mask[2, 3, 1] = True
    nodule = only(volume_of(mask.shape, (5.0, 0.6, 0.8)), mask)
    assert nodule.longest.mm == pytest.approx((25 + 0.36 + 0.64) ** 0.5)
    assert nodule.axial.mm == pytest.approx(1.0)
    assert nodule.perpendicular.mm == pytest.approx(0.75)  # from a corner to a long side
    assert nodule.volume_mm3 == pytest.approx(2.4)
    assert nodule.centroid_zyx == (2, 3, 1)


def test_corners_join_and_a_voxel_between_divides() -> None:
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[1, 1, 1] = mask[2, 2, 2] = 1  # by a corner
    mask[4, 4, 4] = 1  # two further
    mask[2, 2, 3] = 2  # another label, though it touches
    nodules, _ = find_nodules(volume_of(mask.shape, (1.0, 1.0, 1.0)), mask)
    assert [(n.label, n.component, n.voxels) for n in nodules] == [(1, 1, 2), (1, 2, 1), (2, 1, 1)]
    assert nodules[0].longest.mm == pytest.approx(12**0.5)


def test_small_ones_are_left_out_and_counted() -> None:
    mask = np.zeros((4, 9, 9), np.uint8)
    mask[1, 1:3, 1:3] = mask[3, 6, 6] = 3
    volume = volume_of(mask.shape, (2.0, 1.0, 1.0))
    assert [n.voxels for n in find_nodules(volume, mask)[0]] == [4, 1]
    nodules, too_small = find_nodules(volume, mask, names={3: "nodule"}, min_mm3=8.0)
    assert [(n.name, n.voxels) for n in nodules] == [("nodule", 4)]
    assert too_small == 1
    assert find_nodules(volume, mask, min_mm3=8.1) == ([], 2)
    with pytest.raises(ImageError, match="voxels"):
        find_nodules(volume, mask[:, 1:])


@pytest.mark.parametrize("at", [(0, 4, 4), (8, 4, 4), (4, 0, 4), (4, 8, 4), (4, 4, 0), (4, 4, 8)])
def test_the_images_edge_is_told(at: tuple[int, int, int]) -> None:
    mask = np.zeros((9, 9, 9), bool)
    mask[at] = True
    assert only(volume_of(mask.shape, (1.0, 1.0, 1.0)), mask).touches_border
    mask[...] = False
    mask[1:8, 1:8, 1:8] = True
    assert not only(volume_of(mask.shape, (1.0, 1.0, 1.0)), mask).touches_border


def test_hu_are_those_of_the_nodule() -> None:
    volume = volume_of((4, 4, 4), (1.0, 1.0, 1.0))
    volume.array_zyx[...] = 3000
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 1, 1:3] = True
    volume.array_zyx[1, 1, 1:3] = (-100, 40)
    nodule = only(volume, mask)
    assert (nodule.hu_mean, nodule.hu_min, nodule.hu_max, nodule.hu_sd) == (-30, -100, 40, 70)


@pytest.mark.parametrize("shift_mm", [-40.0, 0.0, 40.0])
def test_the_side_is_the_patients_wherever_he_lies(shift_mm: float) -> None:
    chest = body(shift_x_mm=shift_mm)
    middle = midline_x(chest.volume)
    assert middle == pytest.approx((128 - 1) / 2 + shift_mm / 3, abs=3)
    for name in ("right", "left"):
        inside = np.argwhere(getattr(chest, name))
        mask = np.zeros(chest.volume.array_zyx.shape, bool)
        mask[tuple(inside[len(inside) // 2])] = True
        assert only(chest.volume, mask).side == name


def test_without_lungs_no_side_is_made_up() -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 1, 1] = True
    assert only(volume_of((4, 4, 4), (1.0, 1.0, 1.0)), mask).side is None


@pytest.fixture(scope="module")
def tumours() -> tuple[TumourPaths, TumourPaths]:
    try:
        return fetch_tumours()
    except DataError as error:
        if "could not be downloaded" in error.reason:
            pytest.skip(f"the CTs with tumours cannot be fetched here: {error.reason[:200]}")
        raise


def test_real_tumours_have_their_volumes_and_sides(
    tumours: tuple[TumourPaths, TumourPaths],
) -> None:
    for case, ml, side in zip(tumours, (1.361, 48.434), ("right", "left"), strict=True):
        volume = read_volume(case.ct)
        nodules, _ = find_nodules(volume, read_mask(case.mask, like=volume))
        assert [n.side for n in nodules] == [side]
        assert nodules[0].volume_ml == pytest.approx(ml, abs=0.001)
        check_lines(nodules[0], volume.spacing_zyx_mm)
