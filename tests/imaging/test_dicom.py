from __future__ import annotations

import itertools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from ctscribe.errors import ImageError
from ctscribe.imaging.dicom import read_series, scan_files
from ctscribe.imaging.nifti import read_volume, write_volume
from ctscribe.imaging.volume import Volume
from ctscribe.phantom import dicom as phantom
from tests.imaging.series import assert_same, only_series, read, refusal, scan, small

AXES = [
    "".join(letters)
    for pairs in itertools.permutations(("LR", "PA", "SI"))
    for letters in itertools.product(*pairs)
]
SYNTAXES = [
    phantom.IMPLICIT,
    phantom.EXPLICIT,
    phantom.DEFLATED,
    phantom.BIG_ENDIAN,
    phantom.RLE,
    phantom.JPEG_LOSSLESS,
    phantom.JPEG_2000,
]


@pytest.mark.parametrize("axes", AXES)
def test_any_orientation_is_the_same_volume(axes: str, tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, axes=axes)
    assert_same(read(tmp_path).volume, small())


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_any_lossless_syntax_is_the_same_volume(syntax: str, signed: bool, tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path / "plain", syntax=syntax, signed=signed)
    found = read(tmp_path / "plain")
    assert_same(found.volume, small())
    assert found.problems == ()


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_multi_frame_is_read_by_each_frames_own_position_and_slope(
    syntax: str, tmp_path: Path
) -> None:
    order = np.random.default_rng(0).permutation(12).tolist()
    slopes = ((1.0, -1024.0), (0.5, 0.0), (0.25, -7.0))
    phantom.write_enhanced(small(), tmp_path / "a.dcm", syntax=syntax, order=order, slopes=slopes)
    found = read(tmp_path)
    assert_same(found.volume, small())
    assert [problem.code for problem in found.problems] == ["slope-varies"]


@st.composite
def stored(draw: Any) -> dict[str, Any]:
    """A small volume, oblique or not, and one of the ways to store it."""
    shape = tuple(draw(st.lists(st.integers(2, 6), min_size=3, max_size=3)))
    spacing = tuple(
        draw(st.lists(st.sampled_from([0.5, 0.703125, 1.25, 3.0]), min_size=3, max_size=3))
    )
    seed = draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    slope = draw(st.sampled_from([1.0, 2.0, 0.5]))
    hu = (slope * rng.integers(-500, 1000, shape)).astype(np.float32)
    hu.flat[0] = -1000 * slope  # so that it is Hounsfield
    turn, _ = np.linalg.qr(np.eye(3) + rng.normal(0, draw(st.sampled_from([0, 0.05])), (3, 3)))
    turn *= np.sign(np.diag(turn))
    if np.linalg.det(turn) < 0:
        turn[:, 2] *= -1
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing[::-1]
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    signed = draw(st.booleans())
    return {
        "volume": Volume(hu, spacing, affine),
        "axes": draw(st.sampled_from(AXES)),
        "signed": signed,
        "slopes": ((slope, -1000 * slope), (slope, 0.0 if signed else -1500 * slope)),
        "order": draw(st.permutations(range(max(shape)))),
    }


@settings(max_examples=40, deadline=None)
@given(stored())
def test_dicom_and_nifti_of_one_volume_are_equal(case: dict[str, Any]) -> None:
    volume = case.pop("volume")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        phantom.write_series(volume, folder / "dicom", **case)
        write_volume(volume, folder / "a.nii")
        expected = read_volume(folder / "a.nii")
        assert_same(read(folder / "dicom").volume, expected)
        assert np.array_equal(expected.array_zyx, volume.array_zyx)


def test_order_is_by_position_whatever_names_and_numbers_say(tmp_path: Path) -> None:
    order = np.random.default_rng(3).permutation(12).tolist()
    phantom.write_series(small(), tmp_path, order=order, tags={"SliceThickness": "5"})
    found = read(tmp_path).volume
    assert_same(found, small())
    assert found.spacing_zyx_mm[0] == 2.5  # the step, not the thickness


def test_rounded_positions_are_one_even_grid(tmp_path: Path) -> None:
    """0.625 mm written as 0.6, 1.3, 1.9, as some scanners do."""
    volume = replace(small((60, 9, 14)), spacing_zyx_mm=(0.625, 0.8, 0.7))
    volume.affine[2, 2] = 0.625

    def rounded(data: Dataset, _at: int) -> None:
        x, y, z = data.ImagePositionPatient
        data.ImagePositionPatient = [x, y, f"{float(z):.1f}"]

    phantom.write_series(volume, tmp_path, change=rounded)
    assert read(tmp_path).volume.spacing_zyx_mm[0] == pytest.approx(0.625, abs=0.002)


@pytest.mark.parametrize("slopes", [((1.0, -1024.0), (0.5, -100.0)), ((2.0, -1024.0), (1.0, 0.0))])
def test_each_slice_has_its_own_slope(slopes: Any, tmp_path: Path) -> None:
    volume = small()
    volume.array_zyx[:] = volume.array_zyx // 2 * 2
    phantom.write_series(volume, tmp_path, slopes=slopes)
    found = read(tmp_path)
    assert_same(found.volume, volume)
    (note,) = found.problems
    assert (note.code, note.severity, note.case) == ("slope-varies", "note", "case-7")
    assert f"{slopes[1][0]:g}" in note.detail


def test_fractions_of_hu_stay(tmp_path: Path) -> None:
    volume = small()
    volume = replace(volume, array_zyx=(volume.array_zyx + np.float32(0.25)).astype(np.float32))
    phantom.write_series(volume, tmp_path, slopes=((0.25, -1024.0),), bits_allocated=16)
    assert_same(read(tmp_path).volume, volume)


# ------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize("skip", [(4,), (3, 4, 8)])
def test_missing_slices_are_counted_and_named(skip: tuple[int, ...], tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, skip=skip)
    error = refusal(tmp_path)
    assert error.code == "slices-missing"
    assert f"{len(skip)} slice" in error.reason
    assert "missing of 12" in error.reason
    first, last = f"CT{skip[0] - 1:04d}.dcm", f"CT{skip[0] + len(skip[:2]):04d}.dcm"
    assert first in error.reason
    assert last in error.reason


def test_gaps_are_seen_where_most_steps_are_double(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, skip=(1, 3, 5, 9))
    assert refusal(tmp_path).code == "slices-missing"


@pytest.mark.parametrize(("slice_at", "mm"), [(5, 0.9), (0, -1.0), (11, 0.6)])
def test_uneven_slices_are_refused(slice_at: int, mm: float, tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, shift_mm={slice_at: mm})
    error = refusal(tmp_path)
    assert error.code == "uneven-slices"
    assert " mm off" in error.reason


def test_a_spacing_that_changes_halfway_is_uneven(tmp_path: Path) -> None:
    shifts = {at: 0.25 * max(0, at - 6) for at in range(12)}
    phantom.write_series(small(), tmp_path, shift_mm=shifts)
    assert refusal(tmp_path).code == "uneven-slices"


@pytest.mark.parametrize("degrees", [-20.0, 1.0, 12.5])
def test_a_tilted_gantry_is_refused_with_its_angle(degrees: float, tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, tilt_deg=degrees)
    error = refusal(tmp_path)
    assert error.code == "gantry-tilt"
    assert f"{abs(degrees):.1f} degrees" in error.reason


def test_a_tilt_within_rounding_is_none(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, tilt_deg=0.2)
    assert_same(read(tmp_path).volume, small())


def test_a_slice_shifted_in_its_plane_is_refused(tmp_path: Path) -> None:
    def shifted(data: Dataset, at: int) -> None:
        if at == 6:
            x, y, z = data.ImagePositionPatient
            data.ImagePositionPatient = [f"{float(x) + 8:.3f}", y, z]

    phantom.write_series(small(), tmp_path, change=shifted)
    error = refusal(tmp_path)
    assert error.code == "uneven-slices"
    assert "sideways" in error.reason


def second_copy(folder: Path, at: int, change: Any = None) -> None:
    """Slice `at` once more in another file."""

    def altered(data: Dataset, index: int) -> None:
        data.SOPInstanceUID = phantom.uid_of("again", index)
        if change is not None:
            change(data)

    others = [index for index in range(12) if index != at]
    phantom.write_series(small(), folder, skip=others, name="again{:04d}.dcm", change=altered)


def test_equal_duplicates_are_kept_once(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path)
    second_copy(tmp_path, 4)
    second_copy(tmp_path, 0)
    found = read(tmp_path)
    assert_same(found.volume, small())
    (note,) = found.problems
    assert note.code == "slices-duplicate"
    assert note.detail.startswith("2 slices came")


def test_equal_pixels_with_another_slope_conflict(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path)
    second_copy(tmp_path, 4, lambda data: setattr(data, "RescaleIntercept", "-1000"))
    assert refusal(tmp_path).code == "slices-conflict"


def test_one_pixel_makes_a_conflict(tmp_path: Path) -> None:
    def one_pixel(data: Dataset) -> None:
        data.PixelData = data.PixelData[:-1] + bytes([data.PixelData[-1] ^ 1])

    phantom.write_series(small(), tmp_path)
    second_copy(tmp_path, 4, one_pixel)
    error = refusal(tmp_path)
    assert error.code == "slices-conflict"
    assert error.reason.endswith("differ in 1 pixel")
    assert {"CT0004.dcm", "again0004.dcm"} <= set(error.reason.split())


def test_a_second_reconstruction_of_another_field_of_view_conflicts(tmp_path: Path) -> None:
    def moved(data: Dataset) -> None:
        x, y, z = data.ImagePositionPatient
        data.ImagePositionPatient = [f"{float(x) + 0.3:.3f}", y, z]

    phantom.write_series(small(), tmp_path)
    second_copy(tmp_path, 4, moved)
    assert "in plane" in refusal(tmp_path).reason


@pytest.mark.parametrize(
    ("keyword", "code"),
    [
        ("ImagePositionPatient", "no-geometry"),
        ("ImageOrientationPatient", "no-geometry"),
        ("PixelSpacing", "spacing"),
    ],
)
def test_geometry_is_never_guessed(keyword: str, code: str, tmp_path: Path) -> None:
    def without(data: Dataset, at: int) -> None:
        if at == 5:
            delattr(data, keyword)

    phantom.write_series(small(), tmp_path, change=without)
    error = refusal(tmp_path)
    assert error.code == code
    assert error.file == str(tmp_path / "CT0005.dcm")
    assert "1 of 12" in error.reason


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "no-geometry"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "no-geometry"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "not-3d"),
        ({"PixelSpacing": ["0.9", "0.9"]}, "spacing"),
        ({"PixelSpacing": ["0", "0"]}, "spacing"),
    ],
)
def test_a_slice_that_lies_otherwise_is_refused(
    tags: dict[str, Any], code: str, tmp_path: Path
) -> None:
    def other(data: Dataset, at: int) -> None:
        if at == 7:
            for keyword, value in tags.items():
                setattr(data, keyword, value)

    phantom.write_series(small(), tmp_path, change=other)
    error = refusal(tmp_path)
    assert (error.code, error.file) == (code, str(tmp_path / "CT0007.dcm"))


def test_slices_of_two_sizes_are_refused(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, skip=(3,))
    volume = small((12, 9, 13))
    others = [at for at in range(12) if at != 3]
    phantom.write_series(volume, tmp_path, skip=others)
    error = refusal(tmp_path)
    assert error.code == "not-3d"
    assert error.file == str(tmp_path / "CT0003.dcm")


def test_one_slice_is_no_volume(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, skip=range(1, 12))
    assert refusal(tmp_path).code == "not-3d"


# --------------------------------------------------------------------------------- pixels


def test_rubbish_above_the_stored_bits_is_dropped(tmp_path: Path) -> None:
    volume = small()

    def rubbish(data: Dataset, at: int) -> None:
        stored = np.frombuffer(data.PixelData, np.uint16)
        data.PixelData = (stored | np.uint16(0xA000)).tobytes()

    phantom.write_series(volume, tmp_path, signed=False, bits_stored=12, change=rubbish)
    assert_same(read(tmp_path).volume, volume)


def test_twelve_signed_bits_keep_their_sign(tmp_path: Path) -> None:
    volume = small()

    def without_sign(data: Dataset, at: int) -> None:
        data.PixelData = (np.frombuffer(data.PixelData, np.uint16) & 0xFFF).tobytes()

    phantom.write_series(
        volume, tmp_path, slopes=((1.0, 0.0),), bits_stored=12, change=without_sign
    )
    assert_same(read(tmp_path).volume, volume)


def test_bits_may_lie_high(tmp_path: Path) -> None:
    def high(data: Dataset, at: int) -> None:
        data.PixelData = (np.frombuffer(data.PixelData, np.uint16) << 4 | 5).tobytes()
        data.HighBit = 15

    phantom.write_series(small(), tmp_path, signed=False, bits_stored=12, change=high)
    assert_same(read(tmp_path).volume, small())


def test_eight_bits_with_a_slope_are_hu(tmp_path: Path) -> None:
    volume = small()
    volume.array_zyx[:] = volume.array_zyx // 16 * 16
    phantom.write_series(
        volume, tmp_path, bits_allocated=8, signed=False, slopes=((16.0, -1024.0),)
    )
    assert_same(read(tmp_path).volume, volume)


def test_monochrome1_shows_darker_but_holds_the_same_hu(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, tags={"PhotometricInterpretation": "MONOCHROME1"})
    assert_same(read(tmp_path).volume, small())


@pytest.mark.parametrize(("vr", "value"), [("SS", -2000), ("US", 63536)])
def test_padding_becomes_air(vr: str, value: int, tmp_path: Path) -> None:
    padded = small()
    padded.array_zyx[:, :3, :4] = -1024
    volume = small()
    volume.array_zyx[:, :3, :4] = -2000 - 1024
    phantom.write_series(
        volume, tmp_path, change=lambda data, at: data.add_new(0x00280120, vr, value)
    )
    assert_same(read(tmp_path).volume, padded)


def test_padding_that_would_overflow_becomes_air(tmp_path: Path) -> None:
    volume = small()
    volume.array_zyx[:, :3, :4] = -31768
    phantom.write_series(
        volume,
        tmp_path,
        slopes=((1.0, 1000.0),),
        change=lambda data, at: (
            data.add_new(0x00280120, "SS", -32768),
            setattr(data, "RescaleIntercept", "-1024"),
        ),
    )
    found = read(tmp_path).volume
    assert found.array_zyx.dtype == np.int16
    assert (found.array_zyx[:, :3, :4] == -1024).all()
    assert np.array_equal(found.array_zyx[:, 3:], volume.array_zyx[:, 3:] - 2024)


def test_declared_padding_that_pixels_do_not_hold_changes_nothing(tmp_path: Path) -> None:
    volume = small()
    volume.array_zyx[:, :3, :4] = -2000
    phantom.write_series(
        volume, tmp_path, change=lambda data, at: data.add_new(0x00280120, "SS", -32768)
    )
    assert_same(read(tmp_path).volume, volume)


def test_padding_in_tissues_range_counts_outside_the_body_alone(tmp_path: Path) -> None:
    """Zero is padding in the corners and water in the middle."""
    volume = small()
    volume.array_zyx[volume.array_zyx == 0] = 1
    for y, x in itertools.product((slice(0, 2), slice(-2, None)), repeat=2):
        volume.array_zyx[:, y, x] = 0
    volume.array_zyx[:, 4, 6] = 0
    phantom.write_series(
        volume,
        tmp_path,
        slopes=((1.0, 0.0),),
        change=lambda data, at: data.add_new(0x00280120, "SS", 0),
    )
    found = read(tmp_path).volume.array_zyx
    assert (found[:, :2, :2] == -1024).all()
    assert (found[:, 4, 6] == 0).all()


def test_blank_slices_are_named(tmp_path: Path) -> None:
    def blank(data: Dataset, at: int) -> None:
        if at in (3, 8):
            data.PixelData = bytes(len(data.PixelData))

    phantom.write_series(small(), tmp_path, change=blank)
    error = refusal(tmp_path)
    assert error.code == "blank"
    assert "2 of 12" in error.reason
    assert "CT0003.dcm, CT0008.dcm" in error.reason


def test_pixels_without_slope_are_not_hu(tmp_path: Path) -> None:
    def lost(data: Dataset, at: int) -> None:
        del data.RescaleSlope, data.RescaleIntercept

    phantom.write_series(small(), tmp_path, signed=False, change=lost)
    assert "not Hounsfield" in refusal(tmp_path).reason


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.102", "MPEG-4"),
        ("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000"),
        ("1.2.3.4.5", "1.2.3.4.5"),
    ],
)
def test_an_unknown_syntax_is_named(syntax: str, name: str, tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path)
    (series,) = scan(tmp_path).series
    changed = tuple(
        replace(one, pixels=replace(one.pixels, syntax=syntax)) for one in series.instances
    )
    with pytest.raises(ImageError, match="stored as") as caught:
        read_series(replace(series, instances=changed))
    assert caught.value.code == "syntax-unsupported"
    assert name in str(caught.value)


def test_loss_is_a_warning(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, tags={"LossyImageCompression": "01"})
    found = read(tmp_path)
    assert_same(found.volume, small())
    (warning,) = found.problems
    assert (warning.code, warning.severity) == ("syntax-lossy", "warning")
    assert "12 of 12" in warning.detail


def test_colour_is_refused(tmp_path: Path) -> None:
    phantom.write_secondary_capture(tmp_path)
    (series,) = scan(tmp_path).series
    twice = replace(
        series,
        instances=tuple(
            replace(
                series.instances[0],
                position_mm=(0.0, 0.0, z),
                orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
                spacing_yx_mm=(1.0, 1.0),
            )
            for z in (0.0, 1.0)
        ),
    )
    with pytest.raises(ImageError, match="colours"):
        read_series(twice)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_cut_file_is_never_read(syntax: str, share: float, tmp_path: Path) -> None:
    """Whatever the syntax: at the scan or at the reading, never zeros."""
    paths = phantom.write_series(small((3, 40, 48)), tmp_path, syntax=syntax)
    data = paths[2].read_bytes()
    tag = b"\x7f\xe0\0\x10" if syntax == phantom.BIG_ENDIAN else b"\xe0\x7f\x10\0"
    start = 400 if syntax == phantom.DEFLATED else data.rindex(tag)
    paths[2].write_bytes(data[: start + int((len(data) - start) * share)])
    error = refusal(tmp_path)
    assert error.code == "unreadable"
    assert error.file == str(paths[2])


def test_a_file_that_vanished_since_the_scan_is_named(tmp_path: Path) -> None:
    paths = phantom.write_series(small(), tmp_path)
    series = only_series(tmp_path)
    paths[5].unlink()
    with pytest.raises(ImageError, match=r"CT0005\.dcm: it cannot be read"):
        read_series(series)


def test_too_many_voxels_are_refused_before_any_is_read(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path)
    series = only_series(tmp_path)
    vast = tuple(
        replace(one, pixels=replace(one.pixels, rows=16000, columns=16000))
        for one in series.instances
    )
    with pytest.raises(ImageError, match="16000 x 16000 x 12") as caught:
        read_series(replace(series, instances=vast))
    assert caught.value.code == "too-large"


def test_chinese_spaces_and_long_paths_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "张 三" / ("很长的文件夹名" * 5) / ("x" * 120) / ("y" * 120)
    for syntax in (phantom.EXPLICIT, phantom.JPEG_2000):
        phantom.write_series(small(), folder, syntax=syntax, name="影像 {:04d}.dcm")
        assert len(str(folder)) > 260
        assert_same(read(folder).volume, small())


def test_sources_are_left_as_they_were(tmp_path: Path) -> None:
    paths = phantom.write_series(small(), tmp_path)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}
    series = scan_files(paths).series[0]
    read_series(series)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths} == before
    assert sorted(tmp_path.iterdir()) == sorted(paths)
