"""The same voxels are found however they are stored; others never."""

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ctscribe.errors import ImageError
from ctscribe.imaging import duplicates
from ctscribe.imaging.cache import Cache
from ctscribe.imaging.duplicates import equal_images, voxel_sha256
from ctscribe.imaging.nifti import write_volume
from ctscribe.imaging.volume import Volume
from tests.imaging.test_nifti import CODES, RAS, stored, voxels


def cases(folder: Path) -> dict[Path, str]:
    return {path: path.name for path in sorted(folder.iterdir())}


@pytest.fixture
def stored_anew(tmp_path: Path) -> Path:
    """One CT in every orientation, compression, format and type of voxel."""
    folder = tmp_path / "CT 图像"
    folder.mkdir()
    for code in CODES:
        nib.save(stored(code), folder / f"{code}.nii.gz")
    plain = (folder / "LPS.nii").as_posix()
    nib.save(stored("LPS"), plain)
    for level in (1, 9):
        packed = gzip.compress(Path(plain).read_bytes(), level)
        (folder / f"level{level}.nii.gz").write_bytes(packed)
    image = sitk.ReadImage(plain)
    for ending in ("nrrd", "mha", "mhd"):
        sitk.WriteImage(image, str(folder / f"itk.{ending}"))
    nib.save(nib.Nifti1Image(voxels().astype(np.float32), RAS), folder / "float.nii.gz")
    shifted = nib.Nifti1Image((voxels() + 1024).astype(np.uint16), RAS)
    shifted.header.set_slope_inter(1, -1024)
    nib.save(shifted, folder / "slope.nii.gz")
    one_mm = np.diag([1.0, 1, 1, 1])
    one_mm[:3, 3] = RAS[:3, 3]
    nib.save(nib.Nifti1Image(voxels(), one_mm), folder / "spacing_lost.nii.gz")
    return folder


def test_one_ct_stored_in_every_way_is_one(stored_anew: Path, tmp_path: Path) -> None:
    paths = {p: n for p, n in cases(stored_anew).items() if not n.endswith("raw")}
    assert len(paths) == len(CODES) + 9
    keys = equal_images(paths, cache=tmp_path / "cache")
    assert set(keys) == set(paths)
    assert len(set(keys.values())) == 1
    for one in ("RAS.nii.gz", "itk.nrrd"):  # alone with a copy whose axes are swapped
        pair = {stored_anew / name: name for name in (one, "SAR.nii.gz")}
        keys = equal_images(pair, cache=tmp_path / "cache")
        assert len(keys) == 2
        assert len(set(keys.values())) == 1


@pytest.mark.parametrize("change", ["one voxel", "mirrored", "one slice fewer", "another value"])
def test_another_ct_is_another(change: str, tmp_path: Path) -> None:
    array = np.ascontiguousarray(voxels().transpose())
    other = array.copy()
    if change == "one voxel":
        other[3, 4, 5] += 1
    elif change == "mirrored":
        other = np.ascontiguousarray(other[:, :, ::-1])
    elif change == "one slice fewer":
        other = other[:-1]
    else:
        other += 1
    for name, content in (("a", array), ("b", other)):
        write_volume(Volume(content, (2.5, 0.8, 0.7), RAS), tmp_path / f"{name}.nii.gz")
    keys = equal_images(cases(tmp_path), cache=tmp_path / "cache")
    assert len(set(keys.values())) == len(keys) == (0 if change == "one slice fewer" else 2)


def test_what_is_remembered_is_not_read_again_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = tmp_path / "images", tmp_path / "cache"
    folder.mkdir()
    for name in "ab":
        nib.save(stored("LPS"), folder / f"{name}.nii")  # as long with other voxels
    reads: list[Path] = []
    read = duplicates.nifti.read_volume

    def counted(path: Path, *, case: str | None = None) -> Volume:
        reads.append(path)
        return read(path, case=case)

    monkeypatch.setattr(duplicates.nifti, "read_volume", counted)
    first = equal_images(cases(folder), cache=cache)
    assert equal_images(cases(folder), cache=cache) == first
    assert len(reads) == 4, "files of this moment may change unseen, and are read each time"
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    for _ in range(2):
        assert equal_images(cases(folder), cache=cache) == first
    assert len(reads) == 6
    changed = folder / "b.nii"
    size = changed.stat().st_size
    write_volume(Volume(voxels().transpose() // 2, (2.5, 0.8, 0.7), RAS), changed)
    assert changed.stat().st_size == size
    os.utime(changed, (2e9, 2e9))
    assert len(set(equal_images(cases(folder), cache=cache).values())) == 2
    assert reads[6:] == [changed]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name in "abc":
        nib.save(stored("LPS"), tmp_path / f"{name}.nii.gz")
    whole = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.nii.gz").write_bytes(b"no image")
    says = r"case b.nii.gz, .*cannot be read.*2 images cannot be used: also c.nii.gz"
    with pytest.raises(ImageError, match=says) as caught:
        equal_images(cases(tmp_path), cache=tmp_path.with_name("cache"))
    assert caught.value.code == "unreadable"
    for name in "defghij":
        (tmp_path / f"{name}.nii").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"9 images .*: also c.nii.gz .*f.nii\S* and 4 more"):
        equal_images(cases(tmp_path), cache=tmp_path.with_name("cache"))
    with pytest.raises(ImageError, match="there is no such file"):
        voxel_sha256(tmp_path / "lost.nii")


def test_a_key_is_of_one_path_size_time_and_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, store = tmp_path / "a.nii.gz", Cache(tmp_path / "cache")
    array = np.ascontiguousarray(voxels().transpose())

    def key(content: np.ndarray) -> str:
        """Of a file of the same time, whatever it holds."""
        write_volume(Volume(content, (2.5, 0.8, 0.7), RAS), file)
        os.utime(file, (1e9, 1e9))
        return voxel_sha256(file, store=store)

    first = key(array)
    assert key(array[:-1]) != first, "of another size"
    assert key(array) == first
    monkeypatch.setattr(duplicates, "_code", lambda: "other code")
    monkeypatch.setattr(duplicates.volume, "voxels_sha256", lambda _: "what the other code says")
    assert key(array) == "what the other code says"


def test_no_key_is_kept_of_a_header_whose_voxels_lie_elsewhere(tmp_path: Path) -> None:
    store = Cache(tmp_path / "cache")
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels().transpose()))
    image.SetSpacing((0.7, 0.8, 2.5))
    keys = []
    for change in (0, 1):
        sitk.WriteImage(image + change, str(tmp_path / "a.mhd"))
        os.utime(tmp_path / "a.mhd", (1e9, 1e9))
        keys.append(voxel_sha256(tmp_path / "a.mhd", store=store))
    assert keys[0] != keys[1]
