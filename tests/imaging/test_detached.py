"""A header may name its voxels beside it, and no other file of the machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ctscribe.errors import ImageError
from ctscribe.imaging.nifti import read_volume, stored_as


def write(folder: Path, name: str) -> Path:
    """An image whose voxels lie in a file of their own."""
    folder.mkdir(exist_ok=True)
    hu = np.random.default_rng(0).integers(-1000, 900, (4, 5, 6)).astype(np.int16)
    image = sitk.GetImageFromArray(hu)
    image.SetOrigin((5, 6, 7))
    sitk.WriteImage(image, str(folder / name))
    return folder / name


@pytest.fixture(params=["a.mhd", "a.nrrd"])
def detached(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    name = str(request.param)
    written = write(tmp_path / "in", name.replace("nrrd", "nhdr"))
    return written.rename(written.with_name(name))


def test_voxels_beside_their_header_are_read(detached: Path) -> None:
    assert read_volume(detached).array_zyx.shape == (4, 5, 6)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../in/a.raw", "another folder"),
        ("{}/a.raw", "another folder"),
        ("C:a.raw", "another folder"),
        ("..\\in\\a.raw", "another folder"),
        ("..", "another folder"),
        ("LIST\n../in/a.raw", "several files"),
        ("a%03d.raw 1 4 1", "several files"),
    ],
)
def test_voxels_elsewhere_are_refused_by_name(
    tmp_path: Path, detached: Path, name: str, words: str
) -> None:
    other = tmp_path / "other" / detached.name
    other.parent.mkdir()
    text = detached.read_text()
    other.write_text(text.replace("a.raw", name.format(detached.parent)))
    assert other.read_text() != text
    for read in (read_volume, lambda path: stored_as(path, path.suffix, tmp_path)):
        with pytest.raises(ImageError, match=words) as caught:
            read(other)
        assert caught.value.code == "unreadable"
        assert str(detached.parent) not in str(caught.value)


def test_a_mha_may_not_name_another_file_and_a_comment_hides_none(tmp_path: Path) -> None:
    held = write(tmp_path / "in", "a.mhd")
    other = tmp_path / "a.mha"
    away = held.read_text().replace("a.raw", "in/a.raw")
    for text in (
        away,
        away.replace("ElementType", "Comment = ElementDataFile = LOCAL\nElementType"),
    ):
        other.write_text(text)
        with pytest.raises(ImageError, match="another folder"):
            read_volume(other)
    other.write_text(away.partition("ElementDataFile")[0])
    with pytest.raises(ImageError, match="does not say where its voxels are"):
        read_volume(other)


def test_voxels_that_look_like_a_header_are_voxels(tmp_path: Path) -> None:
    hu = np.full((4, 5, 60), -1000, np.int16)
    hu[2, 2, :40] = 500
    said = np.frombuffer(b"\nElementDataFile = ../x\n\ndata file: ../x\n", np.uint8)
    hu.reshape(-1).view(np.uint8)[: len(said)] = said
    hu[1, 1, 1] = -1000
    for name in ("a.mha", "a.nrrd"):
        image = sitk.GetImageFromArray(hu)
        image.SetOrigin((5, 6, 7))
        sitk.WriteImage(image, str(tmp_path / name))
        assert np.array_equal(
            np.sort(read_volume(tmp_path / name).array_zyx.ravel()), np.sort(hu.ravel())
        )
