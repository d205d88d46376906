"""`ctscribe contours`: the same figures however files are stored, and pictures that show them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from ctscribe import cli
from ctscribe.errors import ConfigError, ImageError
from ctscribe.imaging.contours import (
    COLUMNS,
    ContoursOptions,
    label_names,
    read_label_names,
    run_contours,
)
from ctscribe.imaging.nodules import Nodule, find_nodules
from ctscribe.imaging.overlay import captions, outline, write_overlay
from ctscribe.imaging.volume import Volume
from tests.imaging.bodies import body

CHEST = body()
CODES = ["RAS", "LPS", "SAR", "PIR", "LAI"]


def marked() -> NDArray[np.uint8]:
    """Two labels in the drawn chest: one in the right lung, two of the other in the left."""
    mask = np.zeros(CHEST.volume.array_zyx.shape, np.uint8)
    mask[40:43, 44:50, 84:92] = 1
    mask[42, 44:48, 84:86] = 0
    mask[30:34, 50:53, 36:40] = 2
    mask[50, 50, 40] = 2
    return mask


def save(array_zyx: NDArray[np.generic], code: str, path: Path) -> Path:
    """Store an array of the house's axes in another orientation."""
    image = nib.Nifti1Image(array_zyx.T.copy(), CHEST.volume.affine)
    change = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(code)
    )
    nib.save(image.as_reoriented(change), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chest")
    save(CHEST.volume.array_zyx, "RAS", folder / "ct.nii.gz")
    save(marked(), "RAS", folder / "mask.nii.gz")
    return folder


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "nodules.csv").open(encoding="utf-8-sig", newline="") as handle:
        return list(csv.DictReader(handle))


def test_the_command_writes_table_record_and_pictures(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "dataset.json"
    names.write_text('{"labels": {"background": 0, "结节": 1, "[b]$x$": 2}}', encoding="utf-8")
    (tmp_path / "label9_nodule1.png").write_bytes(b"of an earlier run")
    arguments = [str(files / "ct.nii.gz"), "--mask", str(files / "mask.nii.gz")]
    arguments += ["--output-dir", str(tmp_path), "--labels", str(names), "--min-mm3", "40"]
    with pytest.raises(SystemExit) as stop:
        cli.main(["contours", *arguments])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "结节" in shown
    assert "[b]$x$" in shown
    assert "2 nodules; 1 smaller than 40 mm3 left out; wrote" in shown
    rows = rows_of(tmp_path)
    assert list(rows[0]) == list(COLUMNS)
    assert [(r["label"], r["name"], r["side"]) for r in rows] == [
        ("1", "结节", "right"),
        ("2", "[b]$x$", "left"),
    ]
    assert float(rows[0]["volume_mm3"]) == 136 * 36  # voxels of 4 x 3 x 3 mm
    assert float(rows[0]["volume_ml"]) == 4.896
    assert float(rows[0]["axial_diameter_mm"]) == 30  # 8 by 6 voxels of 3 mm
    record = json.loads((tmp_path / "nodules.json").read_text("utf-8"))
    assert record["left_out"] == 1
    for row, nodule in zip(rows, record["nodules"], strict=True):
        ends = np.array(nodule["ends_mm"]["longest"])
        assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(
            float(row["longest_diameter_mm"]), abs=0.02
        )
        assert matplotlib.image.imread(tmp_path / row["overlay"]).shape == (640, 1500, 4)
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_how_the_files_are_stored_changes_nothing(files: Path, tmp_path: Path) -> None:
    expected: list[dict[str, str]] | None = None
    for code in CODES:
        image = save(CHEST.volume.array_zyx, code, tmp_path / "ct.nii.gz")
        mask = save(marked(), CODES[-1 - CODES.index(code)], tmp_path / "mask.nii.gz")
        run_contours(ContoursOptions(image=image, mask=mask, output_dir=tmp_path / "out"))
        rows = rows_of(tmp_path / "out")
        expected = expected or rows
        assert rows == expected
        assert len(rows) == 3


def test_an_empty_mask_and_another_grid_are_named(files: Path, tmp_path: Path) -> None:
    empty = save(np.zeros_like(marked()), "LPS", tmp_path / "empty.nii.gz")
    config = ContoursOptions(image=files / "ct.nii.gz", mask=empty, output_dir=tmp_path / "out")
    with pytest.raises(ImageError, match="mask is empty") as caught:
        run_contours(config)
    assert "empty.nii.gz" in str(caught.value)
    other = save(marked()[1:], "RAS", tmp_path / "other.nii.gz")
    with pytest.raises(ImageError, match=r"\(71, 96, 128\).*its image \(72, 96, 128\)"):
        run_contours(ContoursOptions(image=files / "ct.nii.gz", mask=other))
    with pytest.raises(ConfigError, match="--mask is not given"):
        run_contours(ContoursOptions(image=files / "ct.nii.gz"))
    assert not (tmp_path / "out").exists()


def test_all_too_small_is_an_empty_table(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ContoursOptions(
        image=files / "ct.nii.gz", mask=files / "mask.nii.gz", output_dir=tmp_path, min_mm3=1e5
    )
    assert run_contours(config) == []
    assert rows_of(tmp_path) == []
    assert capsys.readouterr().out.startswith("0 nodules; 3 smaller than 100000 mm3 left out; ")


def test_names_come_from_every_kind_of_dataset_json(tmp_path: Path) -> None:
    assert label_names({"labels": {"background": 0, "nodule": 1, "ignore": 2}}) == {
        1: "nodule",
        2: "ignore",
    }
    assert label_names({"labels": {"0": "background", "1": "cancer"}}) == {1: "cancer"}
    regions = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    assert label_names({"labels": regions, "regions_class_order": [1, 2]}) == {
        1: "whole",
        2: "core",
    }
    file = tmp_path / "dataset.json"
    for text in ("[]", "{", '{"labels": {"a": "b"}}', '{"labels": {"a": [1]}}', '{"labels": []}'):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match="holds no labels"):
            read_label_names(file)


# ------------------------------------------------------------------------------ the picture
PANEL = 489  # pixels, and where each begins
LEFT, TOP = (9, 506, 1002), 138
ORANGE, BLUE, PINK = (255, 176, 0), (31, 155, 255), (255, 79, 163)


def picture(volume: Volume, nodule: Nodule, folder: Path) -> NDArray[np.int64]:
    """(rows, columns, 3) of 0 to 255."""
    write_overlay(volume, nodule, folder / "a.png")
    image = matplotlib.image.imread(folder / "a.png")[..., :3]
    return (image * 255).round().astype(np.int64)


def panel(image: NDArray[np.int64], i: int, margin: int = 3) -> NDArray[np.int64]:
    return image[TOP + margin : TOP + PANEL - margin, LEFT[i] + margin : LEFT[i] + PANEL - margin]


def like(image: NDArray[np.int64], colour: tuple[int, int, int]) -> NDArray[np.intp]:
    return np.argwhere(np.abs(image - colour).max(-1) < 40)


def one_nodule() -> tuple[Volume, Nodule]:
    """Air with a nodule of 8 x 6 x 10 mm (z, y, x)."""
    hu = np.full((60, 90, 100), -1000, np.int16)
    mask = np.zeros(hu.shape, np.uint8)
    mask[30:34, 40:46, 50:60] = 1
    volume = Volume(hu, (2.0, 1.0, 1.0), np.diag([1.0, 1.0, 2.0, 1.0]))
    return volume, find_nodules(volume, mask)[0][0]


def test_outline_and_diameters_are_drawn_where_they_are_in_mm(tmp_path: Path) -> None:
    volume, nodule = one_nodule()
    image = picture(volume, nodule, tmp_path)
    per_mm = PANEL / 60
    for i, (high, wide) in enumerate([(6, 10), (8, 10), (8, 6)]):
        own = like(panel(image, i), ORANGE)
        own = own[(own[:, 0] < 330) | (own[:, 1] > 130)]  # not the frame on the small slice
        np.testing.assert_allclose(np.ptp(own, axis=0) / per_mm, (high, wide), atol=0.7)
        np.testing.assert_allclose((own.min(0) + own.max(0)) / 2, PANEL / 2 - 3, atol=4)
    for colour, diameter in ((BLUE, nodule.axial), (PINK, nodule.perpendicular)):
        drawn = like(panel(image, 0), colour)
        ends = np.array(diameter.ends_zyx)[:, 1:]
        np.testing.assert_allclose(
            np.ptp(drawn, axis=0) / per_mm, np.abs(ends[1] - ends[0]), atol=0.8
        )


def test_right_is_left_front_is_up_and_the_head_is_above(tmp_path: Path) -> None:
    volume, nodule = one_nodule()
    # A rod of bone from the nodule to each of right, front and head; all other ways are air.
    volume.array_zyx[30:34, 42:44, 62:76] = 900
    volume.array_zyx[30:34, 48:62, 54:56] = 900
    volume.array_zyx[36:44, 42:44, 54:56] = 900
    image = picture(volume, nodule, tmp_path)
    rods = [panel(image, i, 30).mean(-1) > 245 for i in range(3)]
    n = len(rods[0])
    middle = slice(n // 2 - 25, n // 2 + 25)
    # The rods are wider than letters, and stand where no letter does.
    assert rods[0][middle, : n // 3].mean() > 0.1  # right: the viewer's left
    assert rods[0][middle, 2 * n // 3 :].mean() < 0.02
    assert rods[0][: n // 3, middle].mean() > 0.1  # front: above
    assert rods[1][middle, : n // 3].mean() > 0.1
    assert rods[1][: n // 3, middle].mean() > 0.1  # head: above
    assert rods[2][middle, : n // 3].mean() > 0.1  # front: the viewer's left, seen from the left
    assert rods[2][: n // 3, middle].mean() > 0.1
    assert rods[2][middle, 2 * n // 3 :].mean() < 0.02


def test_an_outline_follows_the_voxels_edges() -> None:
    cut = np.array([[1, 1], [0, 1]], bool)
    edges = {tuple(map(tuple, edge)) for edge in outline(cut)}
    assert len(edges) == 8
    for edge in [((-0.5, -0.5), (0.5, -0.5)), ((-0.5, 0.5), (0.5, 0.5)), ((0.5, 0.5), (0.5, 1.5))]:
        assert edge in edges
    assert ((0.5, 0.5), (1.5, 0.5)) not in edges  # between two that are marked


def test_the_words_are_the_figures() -> None:
    _, nodule = one_nodule()
    title, figures, place = captions(nodule)
    assert title == "label 1, component 1"
    assert "0.48 ml" in figures
    assert f"{136**0.5:.1f} × " in figures
    assert f"longest in 3D {200**0.5:.1f} mm" in figures
    assert "centre 54.5, 42.5, 63.0 mm (right, front, up)" in place
    assert "edge" not in place
