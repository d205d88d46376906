"""`ctscribe segment`: what nnU-Net's predictor says, on the image's own grid, then measured."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ctscribe.errors import CheckpointError, ConfigError
from ctscribe.evaluation.segment import SegmentOptions, folds_of, predict, run_segment
from ctscribe.imaging.nifti import read_mask, read_volume, stored_as, write_volume
from ctscribe.model.nnunet import TrainedNnunet
from tests.nnunet import small_model

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
AFFINE[:3, 3] = (-40, 30, 100)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """nnU-Net's predictor changes how many there are."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def ct() -> NDArray[np.int16]:
    """(X, Y, Z) in RAS order: lung with two nodules and a wall, no symmetry."""
    rng = np.random.default_rng(0)
    hu = rng.integers(-900, -700, (40, 44, 20)).astype(np.int16)
    hu[6:12, 10:15, 5:8] = 40
    hu[28:31, 30:40, 12:16] = 60
    hu[:, :4] = -200
    return hu


def save(code: str, path: Path) -> Path:
    image = nib.Nifti1Image(ct(), AFFINE)
    change = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(code)
    )
    nib.save(image.as_reoriented(change), path)
    return path


class Threshold(torch.nn.Module):
    """Marks every voxel above 0 HU, of what CTNormalization makes of HU."""

    def __init__(self) -> None:
        super().__init__()
        self.at = torch.nn.Parameter(torch.tensor((0.0 + 300) / 400))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(x), 50 * (x - self.at)], 1)


def threshold(**configuration: Any) -> TrainedNnunet:
    return TrainedNnunet(
        plans=small_model.plans(**configuration),
        dataset=small_model.dataset(),
        configuration="3d_fullres",
        trainer="nnUNetTrainer",
        folds=("0",),
        weights=[Threshold().state_dict()],
        mirror_axes=(0, 1),
        epoch=1,
        file=Path("checkpoint_final.pth"),
    )


@pytest.mark.parametrize("code", ["RAS", "LPS", "SRP"])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIOWithReorient"])
def test_the_segmentation_lies_on_the_images_own_grid(
    code: str, ending: str, reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = save(code, tmp_path / "ct.nii.gz")
    if ending != ".nii.gz":
        image = stored_as(image, ending, tmp_path)
        assert image.name == "image.nrrd"
    # At the spacing of what the reader sees nothing is resampled, and all is exact.
    turned = code == "SRP" and reader == "SimpleITKIO"
    spacing = sorted(small_model.SPACING, reverse=not turned)
    trained = threshold(reader=reader, spacing=spacing)
    module = importlib.import_module("ctscribe.model.nnunet")
    monkeypatch.setattr(module, "build_network", lambda *_, fold: Threshold())
    predict(trained, image, tmp_path / "seg.nii.gz", "cpu")
    labels = read_mask(tmp_path / "seg.nii.gz", like=read_volume(image))
    wanted = ct().T > 0
    assert wanted.sum() == 6 * 5 * 3 + 3 * 10 * 4
    assert np.array_equal(labels > 0, wanted)


def test_folders_are_read_and_give_what_nnunet_itself_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    (tmp_path / "model").mkdir()
    model = small_model.write_model(tmp_path / "model", (0, 1))
    image = save("LPS", tmp_path / "ct.nii.gz")
    config = SegmentOptions(
        image=image, nnunet_model=model, output_dir=tmp_path / "out", min_mm3=400, device="cpu"
    )
    nodules = run_segment(config)
    assert "nnU-Net 3d_fullres, fold 0, 1, on cpu" in capsys.readouterr().out
    predictor = nnUNetPredictor(device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(str(model), (0, 1))
    array, properties = SimpleITKIO().read_images([str(image)])
    wanted = predictor.predict_single_npy_array(array, properties)
    found = SimpleITKIO().read_seg(str(tmp_path / "out" / "segmentation.nii.gz"))[0][0]
    assert 0.02 < wanted.mean() < 0.98
    assert (found == wanted).all()
    assert {n.name for n in nodules} == {"nodule"}
    record = json.loads((tmp_path / "out" / "nodules.json").read_text("utf-8"))
    assert len(record["nodules"]) == len(nodules)
    one = replace(config, folds="1", output_dir=tmp_path / "b", min_mm3=1e6)
    assert run_segment(one) == []
    alone = SimpleITKIO().read_seg(str(tmp_path / "b" / "segmentation.nii.gz"))[0][0]
    assert (alone != wanted).any()


def test_a_model_of_pictures_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = save("LPS", tmp_path / "ct.nii.gz")
    module = importlib.import_module("ctscribe.model.nnunet")
    monkeypatch.setattr(module, "build_network", lambda *_, fold: Threshold())
    pictures = threshold(reader="NaturalImage2DIO")
    with pytest.raises(CheckpointError, match="NaturalImage2DIO, which knows no NIfTI"):
        predict(pictures, image, tmp_path / "seg.nii.gz", "cpu")
    assert not (tmp_path / "seg.nii.gz").exists()


def test_without_nnunet_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"not installed.*\.\[nnunet\]"):
        run_segment(SegmentOptions(image=tmp_path / "a.nii.gz", nnunet_model=tmp_path))
    with pytest.raises(ConfigError, match="--nnunet-model is not given"):
        run_segment(SegmentOptions(image=tmp_path / "a.nii.gz"))


def test_folds_are_numbers_or_all_there_are(tmp_path: Path) -> None:
    for name in ("fold_3", "fold_0", "fold_all", "fold_x", "other"):
        (tmp_path / name).mkdir()
    assert folds_of(tmp_path, SegmentOptions().folds) == ["0", "3"]
    assert folds_of(tmp_path, "4,0") == ["4", "0"]
    assert folds_of(tmp_path / "other", "all") == []
    for wrong in ("", "a", "0;1", "0,", "-1"):
        with pytest.raises(ConfigError, match="--folds"):
            SegmentOptions(folds=wrong)


def test_a_file_of_the_models_kind_goes_as_it_is(tmp_path: Path) -> None:
    image = save("PIR", tmp_path / "ct.nii.gz")
    assert stored_as(image, ".nii.gz", tmp_path) == image
    copy = stored_as(image, ".mha", tmp_path)
    write_volume(read_volume(image), tmp_path / "house.nii.gz")
    import SimpleITK as sitk  # noqa: N813

    stored, turned = (sitk.ReadImage(str(p)) for p in (copy, tmp_path / "house.nii.gz"))
    assert (sitk.GetArrayFromImage(stored) == sitk.GetArrayFromImage(sitk.ReadImage(image))).all()
    assert stored.GetSize() != turned.GetSize()
    four = nib.Nifti1Image(ct()[..., None], AFFINE)
    nib.save(four, tmp_path / "four.nii.gz")
    three = stored_as(tmp_path / "four.nii.gz", ".nii.gz", tmp_path)
    assert sitk.ReadImage(str(three)).GetDimension() == 3
