from __future__ import annotations

import gzip
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ctscribe.errors import ImageError
from ctscribe.imaging.nifti import count_labels, read_mask, read_volume, write_volume
from ctscribe.imaging.volume import Volume

SPACING_XYZ = (0.703125, 0.8, 2.5)
RAS = np.diag([*SPACING_XYZ, 1.0])
RAS[:3, 3] = (-101.3, -88.8, 540.2)
CODES = ["RAS", "LAS", "LPS", "RPS", "LPI", "SAR", "PIR", "ASL", "IPL"]


def voxels() -> np.ndarray:
    """(X, Y, Z) in RAS order, every voxel its own value so that no flip can hide."""
    rng = np.random.default_rng(0)
    array = rng.permutation(12 * 10 * 7).reshape(12, 10, 7).astype(np.int16)
    array -= 1000
    return array


def stored(code: str) -> nib.Nifti1Image:
    """The same voxels in another orientation."""
    image = nib.Nifti1Image(voxels(), RAS)
    change = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(code)
    )
    return image.as_reoriented(change)


def assert_is_the_volume(volume: Volume) -> None:
    assert volume.array_zyx.dtype == np.int16
    assert np.array_equal(volume.array_zyx, voxels().T)
    assert volume.spacing_zyx_mm == SPACING_XYZ[::-1]
    np.testing.assert_allclose(volume.affine, RAS, atol=2e-3)


@pytest.mark.parametrize("code", CODES)
def test_nibabels_files_are_the_same_volume_in_any_orientation(code: str, tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a.nii", "B.NII.GZ"):
        image = stored(code)
        assert "".join(nib.aff2axcodes(image.affine)) == code
        nib.save(image, tmp_path / name)
        assert_is_the_volume(read_volume(tmp_path / name))


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_simpleitks_files_are_the_same_volume(code: str, ending: str, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels().T))
    image.SetSpacing(SPACING_XYZ)
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    image.SetOrigin((101.3, 88.8, 540.2))
    sitk.WriteImage(sitk.DICOMOrient(image, code), str(tmp_path / f"a{ending}"))
    assert_is_the_volume(read_volume(tmp_path / f"a{ending}"))


@pytest.mark.parametrize("forms", ["sform only", "qform only"])
def test_either_orientation_of_the_header_will_do(forms: str, tmp_path: Path) -> None:
    image = stored("LPS")
    if forms == "sform only":
        image.set_qform(None, 0)
    else:
        image.set_qform(image.affine, 1)
        image.set_sform(None, 0)
    nib.save(image, tmp_path / "a.nii.gz")
    assert_is_the_volume(read_volume(tmp_path / "a.nii.gz"))


def test_other_pixel_types_and_a_fourth_axis_of_one_change_nothing(tmp_path: Path) -> None:
    for dtype in (np.int32, np.float32, np.float64):
        nib.save(nib.Nifti1Image(voxels().astype(dtype), RAS), tmp_path / "a.nii.gz")
        assert_is_the_volume(read_volume(tmp_path / "a.nii.gz"))
    nib.save(nib.Nifti1Image(voxels()[..., None], RAS), tmp_path / "a.nii.gz")
    assert_is_the_volume(read_volume(tmp_path / "a.nii.gz"))
    nib.save(nib.Nifti1Image(voxels() + np.float32(0.25), RAS), tmp_path / "a.nii.gz")
    assert read_volume(tmp_path / "a.nii.gz").array_zyx.dtype == np.float32


def test_x_grows_to_the_patients_right(tmp_path: Path) -> None:
    array = np.full((20, 10, 8), -1000, np.int16)
    array[2, 3, 4] = 700  # stored LPS: x index 2 of 20 is far to the patient's right
    affine = np.diag([-2.0, -2.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "a.nii.gz")
    z, y, x = np.argwhere(read_volume(tmp_path / "a.nii.gz").array_zyx == 700)[0]
    assert (z, y, x) == (4, 9 - 3, 19 - 2)


def test_oblique_axes_are_read_with_a_warning(tmp_path: Path, caplog) -> None:
    turn = np.radians(12)
    affine = RAS.copy()
    affine[:3, :3] = (
        np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        @ RAS[:3, :3]
    )
    nib.save(nib.Nifti1Image(voxels(), affine), tmp_path / "a.nii.gz")
    with caplog.at_level(logging.WARNING):
        volume = read_volume(tmp_path / "a.nii.gz")
    assert "oblique by 12 degrees" in caplog.text
    assert np.array_equal(volume.array_zyx, voxels().T)
    np.testing.assert_allclose(volume.affine, affine, atol=2e-3)


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Every kind of file that must be refused, and words of the reason."""
    rng = np.random.default_rng(1)
    big = rng.integers(-1000, 1000, (40, 40, 30)).astype(np.int16)
    found = {"missing": (folder / "none.nii.gz", "no such file"), "folder": (folder, "folder")}

    def save(name: str, array: np.ndarray, reason: str, affine: np.ndarray | None = RAS) -> Path:
        path = folder / f"{name.replace(' ', '_')}.nii.gz"
        nib.save(nib.Nifti1Image(array, affine), path)
        found[name] = (path, reason)
        return path

    (folder / "a.dcm").write_bytes(b"DICM")
    found["ending"] = (folder / "a.dcm", "not read")
    (folder / "text.nii.gz").write_text("no gzip")
    found["text"] = (folder / "text.nii.gz", "cannot be read")
    (folder / "zip.nii").write_bytes(gzip.compress(b"x" * 999))
    found["other"] = (folder / "zip.nii", "not a NIfTI header")
    (folder / "empty.nii.gz").write_bytes(b"")
    found["empty"] = (folder / "empty.nii.gz", "cannot be read")
    for share in (0.1, 0.5, 0.98):
        cut(save(f"cut {share}", big, "cannot be read"), share)
    flipped = bytearray(save("one bit", big, "cannot be read").read_bytes())
    flipped[len(flipped) // 2] ^= 0x10
    found["one bit"][0].write_bytes(flipped)
    nib.save(nib.Nifti1Image(big, RAS), folder / "plain.nii")
    cut(folder / "plain.nii", 0.6)
    found["cut plain"] = (folder / "plain.nii", "truncated")
    nib.save(nib.Nifti2Image(big, RAS), folder / "two.nii")
    found["NIfTI-2"] = (folder / "two.nii", "save it as NIfTI-1")
    sitk.WriteImage(sitk.GetImageFromArray(big), str(folder / "a.nrrd"))
    cut(folder / "a.nrrd", 0.7)
    found["cut nrrd"] = (folder / "a.nrrd", "cannot be read")
    sitk.WriteImage(sitk.GetImageFromArray(big), str(folder / "a.mha"))
    cut(folder / "a.mha", 0.7)
    found["cut mha"] = (folder / "a.mha", "cannot be read")
    save("four dimensions", np.stack([big, big], -1), "not one 3D volume")
    save("two dimensions", big[:, :, 0], "not one 3D volume")
    save("one slice", big[:, :, :1], "not one 3D volume")
    rgb = np.zeros((6, 5, 4), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    save("rgb nifti", rgb, "colours")
    colour = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    sitk.WriteImage(colour, str(folder / "rgb.mha"))
    found["colour"] = (folder / "rgb.mha", "not one 3D volume")
    save("no orientation", big, "right and left cannot be told apart", None)
    save("shear", big, "orthonormal", RAS + np.eye(4, k=1) * 0.3)
    hole = big.astype(np.float32)
    hole[3, 4, 5] = np.nan
    save("nan", hole, "not numbers")
    save("mask", (big > 0).astype(np.uint8), "8 bits")
    save("raw", (big + 1000).astype(np.int16), "not Hounsfield")
    save("scaled", (big / 1000 * 0.4).astype(np.float32), "not Hounsfield")
    save("decoded to zeros", np.zeros_like(big), "blank, or its pixels were not decoded")
    save("grey levels", ((big + 1000) / 8).astype(np.int16), "not Hounsfield")
    save("identity", big, "bare identity", np.eye(4))
    for ending in ("nii.gz", "nrrd", "mha"):
        bare = folder / f"bare.{ending}"
        sitk.WriteImage(sitk.GetImageFromArray(big), str(bare))
        found[f"bare {ending}"] = (bare, "bare identity")
    leaning = sitk.GetImageFromArray(big)
    leaning.SetDirection((1, 0.2, 0, 0, 1, 0, 0, 0, 1))
    leaning.SetOrigin((5, 6, 7))
    sitk.WriteImage(leaning, str(folder / "leaning.nrrd"))
    found["leaning"] = (folder / "leaning.nrrd", "orthonormal")
    save("metres", big, "not a CT's", np.diag([1e-3, 1e-3, 1e-3, 1]))
    return found


CODES_OF = {
    "missing": {"missing", "folder"},
    "not-3d": {"four dimensions", "two dimensions", "one slice", "colour", "rgb nifti"},
    "no-geometry": {"no orientation", "identity", "bare nii.gz", "bare nrrd", "bare mha"},
    "sheared": {"shear", "leaning"},
    "spacing": {"metres"},
    "not-finite": {"nan"},
    "not-hu": {"mask", "raw", "scaled", "grey levels"},
    "blank": {"decoded to zeros"},
}


def test_every_refusal_has_its_code(tmp_path: Path) -> None:
    code_of = {name: code for code, names in CODES_OF.items() for name in names}
    for name, (path, _) in bad_files(tmp_path).items():
        with pytest.raises(ImageError) as caught:
            read_volume(path)
        assert caught.value.code == code_of.get(name, "unreadable"), name


def test_one_millimetre_is_no_identity_where_the_corner_is_known(tmp_path: Path) -> None:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:3, 3] = (181.2, 160.0, -310.5)
    steps = np.diag([-0.7, -0.7, 1.0, 1.0])  # steps of its own, but no corner: as some sets are
    for kept in (affine, steps):
        nib.save(nib.Nifti1Image(voxels(), kept), tmp_path / "a.nii.gz")
        assert read_volume(tmp_path / "a.nii.gz").array_zyx.shape == (7, 10, 12)


def refusal(path: Path) -> str:
    try:
        read_volume(path, case="case-7")
    except ImageError as error:
        return str(error)
    return "it was read"


def test_every_bad_file_is_one_line_with_case_file_reason_and_fix(tmp_path: Path) -> None:
    for name, (path, reason) in bad_files(tmp_path).items():
        message = refusal(path)
        assert reason in message, (name, message)
        assert message.startswith(f"case case-7, {path}: "), (name, message)
        assert "Fix: " in message, (name, message)
        assert "\n" not in message, (name, message)


def test_rescaling_is_named_as_the_fix_of_stored_values(tmp_path: Path) -> None:
    nib.save(
        nib.Nifti1Image(np.arange(4096, dtype=np.int16).reshape(16, 16, 16), RAS),
        tmp_path / "a.nii",
    )
    with pytest.raises(ImageError, match="rescale slope and intercept"):
        read_volume(tmp_path / "a.nii")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    nib.save(stored("PIR"), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    folder = tmp_path / "数据 张三"
    folder.mkdir()
    for ending in (".nii.gz", ".nii", ".nrrd", ".mha"):
        write_volume(volume, folder / f"b{ending}")
        assert_is_the_volume(read_volume(folder / f"b{ending}"))
    (folder / "b.mha").rename(folder / "b.MHA")
    assert_is_the_volume(read_volume(folder / "b.MHA"))
    loaded = nib.load(folder / "b.nii.gz")
    assert nib.aff2axcodes(loaded.affine) == ("R", "A", "S")
    with pytest.raises(ImageError, match="cannot be written"):
        write_volume(volume, tmp_path / "none" / "b.nii.gz")
    assert len(list(folder.iterdir())) == 4


@pytest.mark.parametrize("code", ["RAS", "LPS", "SAR"])
def test_a_mask_is_turned_onto_its_image(code: str, tmp_path: Path) -> None:
    nib.save(stored("LPS"), tmp_path / "image.nii.gz")
    volume = read_volume(tmp_path / "image.nii.gz")
    image = stored(code)
    labels = ((np.asarray(image.dataobj) + 1000) % 7).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels, image.affine), tmp_path / "mask.nii.gz")
    mask = read_mask(tmp_path / "mask.nii.gz", like=volume)
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, (volume.array_zyx + 1000) % 7)


def test_a_mask_of_another_grid_or_with_other_values_is_refused(tmp_path: Path) -> None:
    nib.save(stored("RAS"), tmp_path / "image.nii.gz")
    volume = read_volume(tmp_path / "image.nii.gz")
    labels = np.ones((12, 10, 7), np.float32)
    moved, stretched = RAS.copy(), RAS.copy()
    moved[0, 3] += 5
    stretched[2, 2] = 3.0
    for bad, affine, reason in (
        (labels[1:], RAS, "voxels"),
        (labels, moved, "5.0 mm apart"),
        (labels, stretched, "apart"),
        (labels * 0.5, RAS, "not labels"),
        (labels * 300, RAS, "not labels"),
        (labels * -1, RAS, "not labels"),
    ):
        nib.save(nib.Nifti1Image(bad, affine), tmp_path / "mask.nii.gz")
        with pytest.raises(ImageError, match=reason):
            read_mask(tmp_path / "mask.nii.gz", like=volume, case="c")


def test_a_mask_is_told_from_grey_levels(tmp_path: Path) -> None:
    labels = (voxels() % 7 == 0).astype(np.uint8) * 3
    grey = ((voxels() + 1000) % 200).astype(np.uint8)
    for array, count in ((labels, 1), (labels * 0, 0), (grey, None), (voxels(), None)):
        nib.save(nib.Nifti1Image(array, RAS), tmp_path / "a.nii.gz")
        assert count_labels(tmp_path / "a.nii.gz") == count
