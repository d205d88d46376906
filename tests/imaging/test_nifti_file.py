"""What is read is what ITK reads, to the bit, and every broken file is refused, never zeros."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib

from ctscribe.errors import ImageError
from ctscribe.imaging import nifti, nifti_file
from ctscribe.imaging.nifti import read_volume

AFFINE = np.diag([-0.7, -0.7, 2.0, 1.0])
DTYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
SCALES = [(1.0, 0.0), (0.5, -7.0), (1.0, -1024.0), (0.0, 3.0), (np.nan, 0.0), (np.float32(0.1), 0)]


def nifti_bytes(
    array: np.ndarray, affine: np.ndarray = AFFINE, *, order: str = "<", **header: float
) -> bytes:
    """A NIfTI file whose header says what `header` says, voxels stored as they are."""
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    image = nib.Nifti1Image(array, affine, image.header.as_byteswapped(order), dtype=array.dtype)
    image.set_qform(affine, int(header.pop("qform_code", 1)), strip_shears=True)
    image.set_sform(affine, int(header.pop("sform_code", 1)))
    head = image.header
    for key, value in {
        "scl_slope": np.nan,
        "scl_inter": np.nan,
        "vox_offset": 352,
        **header,
    }.items():
        head[key] = value
    voxels = array.astype(head.get_data_dtype()).tobytes("F")
    return head.binaryblock + bytes(int(head["vox_offset"]) - 348) + voxels


def ours(path: Path) -> np.ndarray:
    with nifti_file.open_nifti(path) as file:
        header = nifti_file.read_header(file)
        return nifti_file.read_voxels(file, header).reshape(header.shape_xyz[::-1])


@settings(max_examples=120, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from(SCALES),
    order=st.sampled_from("<>"),
    offset=st.sampled_from([352, 368, 4000]),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    size=st.sampled_from([900.0, 1e9]),  # the larger ones do not fit float32 exactly
    seed=st.integers(0, 99),
)
def test_voxels_are_itks_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    scale: tuple[float, float],
    order: str,
    offset: int,
    shape: tuple[int, int, int],
    size: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    array = rng.normal(0, size, shape)
    if dtype[0] != "f":
        limits = np.iinfo(dtype)
        array = np.clip(array, limits.min, limits.max)
    array = array.astype(dtype)
    path = tmp_path_factory.mktemp("x") / "a.nii"
    slope, inter = scale
    path.write_bytes(
        nifti_bytes(array, order=order, scl_slope=slope, scl_inter=inter, vox_offset=offset)
    )
    itk = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="NiftiImageIO"))
    got = ours(path)
    assert got.dtype == itk.dtype
    assert got.dtype.isnative
    assert np.array_equal(got, itk)
    if slope != 0:  # there ITK adds the intercept, and the standard says to leave both
        expected = np.asarray(nib.load(path).dataobj).T
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    axes=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    turn=st.tuples(*[st.floats(-0.35, 0.35)] * 3),
    forms=st.sampled_from([(1, 0), (0, 1), (1, 1), (2, 4)]),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
)
def test_volumes_lie_as_itk_turns_them(
    tmp_path_factory: pytest.TempPathFactory,
    axes: list[int],
    signs: tuple[float, float, float],
    turn: tuple[float, float, float],
    forms: tuple[int, int],
    origin: tuple[float, float, float],
) -> None:
    """Any permutation, flips and tilt; against DICOMOrient of the whole image."""
    rotation = np.eye(3)
    for (i, j), angle in zip(((0, 1), (0, 2), (1, 2)), turn, strict=True):
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ step
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(signs)[:, axes] * (0.7, 0.8, 2.5)
    affine[:3, 3] = origin
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) - 1000
    path = tmp_path_factory.mktemp("x") / "a.nii"
    path.write_bytes(nifti_bytes(array, affine, qform_code=forms[0], sform_code=forms[1]))
    itk = sitk.DICOMOrient(sitk.ReadImage(str(path), imageIO="NiftiImageIO"), "RAS")
    volume = read_volume(path)
    assert np.array_equal(volume.array_zyx, sitk.GetArrayFromImage(itk))
    assert volume.array_zyx.flags.c_contiguous
    assert volume.array_zyx.flags.writeable
    np.testing.assert_allclose(volume.spacing_zyx_mm, itk.GetSpacing()[::-1], atol=1e-6)
    lps_to_ras = np.diag([-1.0, -1.0, 1.0])
    direction = lps_to_ras @ np.array(itk.GetDirection()).reshape(3, 3) * itk.GetSpacing()
    np.testing.assert_allclose(volume.affine[:3, :3], direction, atol=1e-5)
    np.testing.assert_allclose(volume.affine[:3, 3], lps_to_ras @ itk.GetOrigin(), atol=1e-3)


GOOD = nifti_bytes(np.random.default_rng(0).integers(-1000, 1000, (30, 30, 20)).astype(np.int16))


def refusal(path: Path) -> str:
    try:
        read_volume(path, case="c")
    except ImageError as error:
        return error.reason
    return "it was read"


def flipped(data: bytes, at: int, bit: int = 1) -> bytes:
    changed = bytearray(data)
    changed[at] ^= bit
    return bytes(changed)


SOUND: dict[str, Callable[[], bytes]] = {
    "one member": lambda: gzip.compress(GOOD),
    "stored, not deflated": lambda: gzip.compress(GOOD, 0),
    "three members": lambda: b"".join(gzip.compress(GOOD[i : i + 20000]) for i in (0, 20000)),
    "a header of its own": lambda: gzip.compress(GOOD[:348]) + gzip.compress(GOOD[348:]),
    "an empty member": lambda: gzip.compress(GOOD) + gzip.compress(b""),
    "zeros behind": lambda: gzip.compress(GOOD) + bytes(512),
    "more than the voxels": lambda: gzip.compress(GOOD + b"x" * 4096),
}
BROKEN: dict[str, Callable[[], bytes]] = {
    "garbage behind": lambda: gzip.compress(GOOD) + b"garbage",
    "wrong CRC": lambda: flipped(gzip.compress(GOOD), -8),
    "wrong length": lambda: flipped(gzip.compress(GOOD), -4),
    "no trailer": lambda: gzip.compress(GOOD)[:-8],
    "half a trailer": lambda: gzip.compress(GOOD)[:-3],
    "half a header": lambda: gzip.compress(GOOD)[:6],
    "wrong magic": lambda: flipped(gzip.compress(GOOD), 0),
    "wrong method": lambda: flipped(gzip.compress(GOOD), 2),
    "second member cut": lambda: gzip.compress(GOOD[:20000]) + gzip.compress(GOOD[20000:])[:-9],
    "second member corrupt": lambda: (
        gzip.compress(GOOD[:20000]) + flipped(gzip.compress(GOOD[20000:]), 3000)
    ),
    "zlib, not gzip": lambda: zlib.compress(GOOD),
    "not compressed": lambda: GOOD,
    "fewer voxels": lambda: gzip.compress(GOOD[:-1]),
}
# SOUND's members split GOOD in two, so both parts must be there.
assert 20000 < len(GOOD) < 40000


@pytest.mark.parametrize("name", SOUND)
def test_sound_streams_are_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(GOOD)
    (tmp_path / "a.nii.gz").write_bytes(SOUND[name]())
    plain, packed = (read_volume(tmp_path / f"a.nii{end}").array_zyx for end in ("", ".gz"))
    assert np.array_equal(plain, packed)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_streams_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(BROKEN[name]())
    assert "cannot be read" in refusal(tmp_path / "a.nii.gz")


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_no_flipped_bit_and_no_cut_is_ever_read_as_other_voxels(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    packed = gzip.compress(GOOD)
    at = data.draw(st.integers(0, len(packed) - 1))
    cut = data.draw(st.booleans())
    bad = packed[:at] if cut else flipped(packed, at, 1 << data.draw(st.integers(0, 7)))
    path = tmp_path_factory.mktemp("x") / "a.nii.gz"
    path.write_bytes(bad)
    reason = refusal(path)
    # Name, time and system in the gzip header mean nothing and are under no checksum.
    assert reason != "it was read" or (not cut and at in range(3, 10)), (at, cut)


def with_header(**header: float) -> bytes:
    return nifti_bytes(np.zeros((4, 4, 4), np.int16), **header)


def with_dims(*dims: int) -> bytes:
    data = bytearray(GOOD)
    struct.pack_into("<8h", data, 40, len(dims), *dims, *[1] * (7 - len(dims)))
    return bytes(data)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (with_dims(32767, 32767, 32767), "more than a CT has"),
        (with_dims(2048, 2048, 513), "more than a CT has"),
        (with_dims(30, 30, 20, 32767), "not one 3D volume"),
        (GOOD[:70] + struct.pack("<h", 128) + GOOD[72:], "type 128"),
        (GOOD[:344] + b"ni1\0" + GOOD[348:], "another file"),
        (GOOD[:108] + struct.pack("<f", 1e30) + GOOD[112:], "start at byte"),
        (GOOD[:108] + struct.pack("<f", np.nan) + GOOD[112:], "start at byte"),
        (GOOD[:108] + struct.pack("<f", -1) + GOOD[112:], "start at byte"),
        (with_header(qform_code=0, sform_code=0), "right and left"),
    ],
)
def test_absurd_headers_are_refused_before_a_voxel_is_read(
    data: bytes, reason: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("voxels were read")

    monkeypatch.setattr(nifti, "read_voxels", never)
    path = tmp_path / f"a{ending}"
    path.write_bytes(gzip.compress(data) if ending == ".nii.gz" else data)
    assert reason in refusal(path)


def test_more_than_the_machines_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = sitk.GetImageFromArray(np.zeros((20, 30, 30), np.int16))
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    (tmp_path / "a.nii").write_bytes(GOOD)
    memory = type("Memory", (), {"total": 30 * 30 * 20 * 2 - 1})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    for name in ("a.nrrd", "a.mha", "a.nii"):
        assert "more than a CT has or this machine can hold" in refusal(tmp_path / name)


def test_a_gzip_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    """1 GB of zeros behind the voxels that the header promises."""
    pack = isal_zlib.compressobj(1, wbits=31)
    with (tmp_path / "a.nii.gz").open("wb") as file:
        file.write(pack.compress(GOOD))
        for _ in range(64):
            file.write(pack.compress(bytes(16 << 20)))
        file.write(pack.flush())
    tracemalloc.start()
    assert "far beyond" in refusal(tmp_path / "a.nii.gz")
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def code_of(data: bytes, path: Path) -> str:
    path.write_bytes(data)
    try:
        read_volume(path)
    except ImageError as error:
        return error.code
    return ""


def with_forms(
    sform: np.ndarray | None, qform: np.ndarray | None, pixdim: tuple[float, ...] = (0.7, 0.7, 2.0)
) -> bytes:
    """GOOD with these affines, written past nibabel, which would repair them."""
    data = bytearray(GOOD)
    struct.pack_into("<2h", data, 252, qform is not None, sform is not None)
    if sform is not None:
        struct.pack_into("<12f", data, 280, *sform[:3].ravel())
    if qform is not None:
        head = nib.Nifti1Header()
        head.set_qform(qform, 1)
        data[256:280] = head.binaryblock[256:280]
        struct.pack_into("<f", data, 76, head["pixdim"][0])
    struct.pack_into("<3f", data, 80, *pixdim)
    return bytes(data)


def turned(degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotation = np.eye(4)
    rotation[:2, :2] = [[cos, -sin], [sin, cos]]
    return rotation @ AFFINE


MIRRORED = np.diag([-1.0, 1, 1, 1]) @ AFFINE
SHEARED = AFFINE + 0.05 * np.eye(4, k=1)


@pytest.mark.parametrize(
    ("sform", "qform", "code"),
    [
        (AFFINE, AFFINE, ""),
        (turned(1), AFFINE, ""),  # registered a little
        (MIRRORED, AFFINE, "geometry-conflict"),
        (turned(8), AFFINE, "geometry-conflict"),
        (AFFINE @ np.diag([2, 2, 2, 1]), AFFINE, "geometry-conflict"),
        (AFFINE @ np.diag([2, 2, 2, 1]), None, "geometry-conflict"),
        (SHEARED, None, "sheared"),
        (SHEARED, AFFINE, "sheared"),
        (np.zeros((4, 4)), None, "no-geometry"),
        (np.zeros((4, 4)), AFFINE, "no-geometry"),
        (np.diag([-0.7, 0, 2, 1]), AFFINE, "no-geometry"),
        (AFFINE[:, [0, 0, 2, 3]], AFFINE, "no-geometry"),
        (AFFINE * np.nan, AFFINE, "no-geometry"),
        (None, None, "no-geometry"),
    ],
)
def test_what_a_header_says_of_geometry_must_hold_together(
    sform: np.ndarray | None, qform: np.ndarray | None, code: str, tmp_path: Path
) -> None:
    assert code_of(with_forms(sform, qform), tmp_path / "a.nii") == code


@pytest.mark.parametrize("pixdim", [(0.0, 0.7, 2.0), (np.nan, 0.7, 2.0), (1.0, 1.0, 1.0)])
def test_sizes_that_pixdim_denies_are_refused(pixdim: tuple[float, ...], tmp_path: Path) -> None:
    code = code_of(with_forms(AFFINE, None, pixdim), tmp_path / "a.nii")
    assert code == "geometry-conflict"


@settings(max_examples=60, deadline=None)
@given(
    axes=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    angle=st.floats(-40, 40),
)
def test_the_quaternion_is_nibabels(
    axes: list[int], signs: tuple[float, ...], angle: float
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = turned(angle)[:3, :3] @ np.diag(signs)[:, axes]
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), None)
    image.set_qform(affine, 1)
    header = nifti_file.read_header(io.BytesIO(image.header.binaryblock))
    # Near half a turn a 32-bit quaternion leaves a thousandth of a radian open.
    np.testing.assert_allclose(header.qform, image.get_qform(), atol=5e-3)


def test_a_small_file_that_promises_much_costs_nothing(tmp_path: Path) -> None:
    """Dimensions that a CT may have, over a few bytes."""
    for name, data in (
        ("a.nii", with_dims(1024, 1024, 1500)),
        ("a.nii.gz", gzip.compress(with_dims(1024, 1024, 1500))),
    ):
        tracemalloc.start()
        assert code_of(data, tmp_path / name) == "unreadable"
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.stop()


def test_a_slope_that_overflows_is_refused_without_a_warning(tmp_path: Path) -> None:
    array = np.full((4, 5, 6), 30000, np.int16)
    array[0] = -30000
    data = nifti_bytes(array, scl_slope=3e38, scl_inter=0.0)
    assert code_of(data, tmp_path / "a.nii") == "not-finite"


def test_a_name_with_spaces_and_chinese(tmp_path: Path) -> None:
    folder = tmp_path / "数据 张三 "
    folder.mkdir()
    (folder / "胸部 CT.nii.gz").write_bytes(gzip.compress(GOOD))
    assert read_volume(folder / "胸部 CT.nii.gz").array_zyx.shape == (20, 30, 30)
