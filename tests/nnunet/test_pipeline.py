"""Both stages and a report on an encoder that nnU-Net itself trained: the grid, and RoIs."""

from pathlib import Path

import numpy as np
import pytest

from ctscribe.config import AlignConfig, CaptionConfig, ModelConfig, ReportConfig
from ctscribe.evaluation.report import run_report
from ctscribe.imaging.nifti import read_volume, write_volume
from ctscribe.imaging.volume import Volume
from ctscribe.model.vlm import load_vision
from ctscribe.phantom.dataset import make_dataset
from ctscribe.tables.csv_file import read_table, write_table
from ctscribe.tables.manifest import load_rows
from ctscribe.training.align import run_align
from ctscribe.training.caption import run_caption
from tests.nnunet.test_import import PLAIN_3D


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clean rows of a few phantoms, one with a mask and one with coordinates."""
    folder = tmp_path_factory.mktemp("data")
    make_dataset(folder, n_studies=14, seed=3, write_masks=False, workers=1)
    frame = read_table(folder / "captions.csv", required=("case_id",))
    usable = [
        (folder / str(path)).is_file() and len(str(answer)) > 20
        for path, answer in zip(frame["image_path"], frame["answer"], strict=True)
    ]
    frame = frame[usable].drop_duplicates("case_id")
    frame["mask_path"], frame["roi_mm"] = "", ""
    file = folder / str(frame["image_path"].iloc[0])
    volume = read_volume(file)
    lung = np.argwhere((volume.array_zyx > -900) & (volume.array_zyx < -700))
    z, y, x = lung[len(lung) // 2]
    mask = np.zeros(volume.array_zyx.shape, np.int16)
    mask[z, y, x] = 1
    write_volume(Volume(mask, volume.spacing_zyx_mm, volume.affine), folder / "mask.nii.gz")
    frame.loc[frame.index[0], "mask_path"] = "mask.nii.gz"
    other = read_volume(folder / str(frame["image_path"].iloc[1]))
    middle = (other.affine @ [*(n / 2 for n in other.array_zyx.shape[::-1]), 1.0])[:3]
    frame.loc[frame.index[1], "roi_mm"] = ",".join(f"{mm:.1f}" for mm in middle)
    write_table(frame, folder / "rows.csv")
    return folder / "rows.csv"


def test_both_stages_and_a_report(
    trained: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = load_rows(table)
    assert rows[0].mask_path == table.parent / "mask.nii.gz"
    assert len(rows[1].roi_mm) == 1
    model = ModelConfig(
        encoder=trained / PLAIN_3D,
        pooling="grid",
        pool_size=(3, 3, 3),
        scan_order="hilbert",
        encoder_output_stage=(1, 3),
        ablation_mode="full",
        local_rois=2,
        roi_side=30.0,
        bridge_width=48,
        use_cmi=True,
        cmi_compress_to=16,
    )
    both = {"model": model, "output_dir": tmp_path, "epochs": 1, "val_ratio": 0.3}
    run_align(AlignConfig(**both, csv_train=table, batch_size=4, ignore_gate=True))
    out = capsys.readouterr().out
    assert "images are turned to LPS for it (the default; not checked)" in out
    assert "visual tokens: 27 of the whole image + 16 of RoIs + 19 of slots = 62" in out
    assert "MiB" in out
    final = run_caption(CaptionConfig(**both, csv=table, from_scratch=True, ignore_gate=True))
    vision, provenance, _ = load_vision(final)
    assert provenance.trained_on == "Dataset501_Phantoms"
    assert vision.visual_tokens == 16
    page = run_report(
        ReportConfig(
            image=rows[0].image_path,
            mask=rows[0].mask_path,
            checkpoint=final,
            output=tmp_path / "r.html",
        )
    )
    assert page.generated.strip()
    # What nnU-Net learned on was no patient, but the page must not say "phantoms" of other data.
    assert not page.phantom_only
