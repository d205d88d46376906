from pathlib import Path

import pytest
import torch

from ctscribe.model.encoder import Encoder, EncoderConfig, EncoderOutput
from ctscribe.model.encoders import load_encoder
from ctscribe.phantom.dataset import SEED_SPACES
from ctscribe.phantom.findings import LESIONS
from ctscribe.training.pretrain_encoder import (
    PRETRAINING_SEEDS,
    PretrainEncoder,
    Sample,
    grid_of,
    make_sample,
    pretrain_encoder,
    segmentation_loss,
    targets,
    truth_of,
)

COARSE = EncoderConfig(channels=(4, 8, 8, 8, 8), spacing_zyx_mm=(9.0, 7.5, 7.5))


def test_the_encoders_classes_are_the_phantoms() -> None:
    assert EncoderConfig().lesions == LESIONS
    assert PRETRAINING_SEEDS >= 10**9
    assert str(SEED_SPACES)  # the spaces are written down where data sets are made


def test_samples_are_repeatable_and_as_large_as_the_grid() -> None:
    one, again, other = (make_sample(seed, "demo", COARSE) for seed in (1, 1, 2))
    assert one.image.shape == grid_of(COARSE)
    assert torch.equal(one.image, again.image)
    assert torch.equal(one.lesion, again.lesion)
    assert not torch.equal(one.image, other.image)
    assert set(one.region.unique().tolist()) >= {0, 1, 2, 3, 4, 5}


def test_a_half_filled_coarse_voxel_counts_in_full() -> None:
    region = torch.zeros((1, 4, 4, 4), dtype=torch.uint8)
    region[:, :, :2, :2] = 3
    lesion = torch.zeros_like(region)
    lesion[0, 1, 0, :2] = 1 << 2  # half of one 1x2x2 block
    lesion[0, 2, 2, 2] |= 1 << 7  # a quarter of another
    majority, share = targets(region, lesion, EncoderConfig())
    assert majority.shape == (1, 4, 2, 2)
    assert majority[0, 0, 0, 0] == 3
    assert majority[0, 0, 1, 1] == 0
    assert share[0, 2, 1, 0, 0] == 1
    assert share[0, 7, 2, 1, 1] == 0.5
    assert share.sum() == 1.5


def output(region: torch.Tensor, lesion: torch.Tensor) -> EncoderOutput:
    return EncoderOutput({}, region, lesion)


def test_the_loss_is_least_where_the_answer_is_right() -> None:
    torch.manual_seed(0)
    region = torch.randint(0, 8, (2, 4, 4, 4))
    lesion = (torch.rand(2, 8, 4, 4, 4) < 0.1).float()
    right = torch.nn.functional.one_hot(region, 8).movedim(-1, 1) * 20.0
    good = segmentation_loss(output(right, lesion * 20 - 10), region, lesion)
    bad = segmentation_loss(output(right.roll(1, 1), 10 - lesion * 20), region, lesion)
    for name, value in good.items():
        assert value < 0.02, name
        assert bad[name] > 0.5, name


def test_rare_lesions_weigh_as_much_as_common_ones() -> None:
    region = torch.zeros((1, 8, 8, 8), dtype=torch.long)
    logits = torch.zeros(1, 8, 8, 8, 8, requires_grad=True)
    lesion = torch.zeros(1, 8, 8, 8, 8)
    lesion[0, 0, :, :, :4] = 1  # half of the image
    lesion[0, 1, :2, :2, :4] = 1  # 16 voxels
    loss = segmentation_loss(output(torch.zeros(1, 8, 8, 8, 8), logits), region, lesion)["lesion"]
    (gradient,) = torch.autograd.grad(loss, logits)
    pull = [float(gradient[0, k][lesion[0, k] > 0].sum()) for k in (0, 1)]
    assert pull[0] == pytest.approx(pull[1], rel=1e-4)


def test_a_short_run_learns_and_saves_what_load_encoder_reads(tmp_path: Path) -> None:
    lines: list[str] = []
    settings = PretrainEncoder(
        seconds=600,
        steps=100,
        batch_size=2,
        pool_size=12,
        workers=0,
        device="cpu",
        eval_studies=8,
    )
    figures = pretrain_encoder(tmp_path, settings, COARSE, lines.append)
    assert figures["steps"] == 100
    assert any("step 100" in line for line in lines)
    torch.manual_seed(settings.seed)
    fresh = Encoder(COARSE)
    trained = load_encoder(tmp_path)
    sample = make_sample(999, "demo", COARSE)
    image = sample.image[None, None].float()
    truth = truth_of(Sample(*(x[None] for x in sample)))
    with torch.no_grad():
        before, after = (segmentation_loss(e.eval()(image), *truth) for e in (fresh, trained))
    assert float(after["region"]) < 0.85 * float(before["region"])
    assert all(float(after[name]) < float(value) for name, value in before.items())
