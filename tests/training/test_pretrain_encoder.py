from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ctscribe.config import bundled
from ctscribe.model.encoder import Encoder, EncoderConfig, EncoderOutput
from ctscribe.model.encoders import load_encoder
from ctscribe.phantom.dataset import SEED_SPACES
from ctscribe.phantom.findings import LESIONS
from ctscribe.training.pretrain_encoder import (
    EVEN_MM3,
    NODULE_WEIGHTS,
    PRETRAINING_SEEDS,
    PretrainEncoder,
    Sample,
    _loader,
    grid_of,
    make_sample,
    nodule_weights,
    pretrain_encoder,
    segmentation_loss,
    start_from,
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
    weight = torch.rand(2, 4, 4, 4) + 0.5
    good = segmentation_loss(output(right, lesion * 20 - 10), region, lesion, weight)
    bad = segmentation_loss(output(right.roll(1, 1), 10 - lesion * 20), region, lesion, weight)
    for name, value in good.items():
        assert value < 0.02, name
        assert bad[name] > 0.5, name


def test_rare_lesions_weigh_as_much_as_common_ones() -> None:
    region = torch.zeros((1, 8, 8, 8), dtype=torch.long)
    logits = torch.zeros(1, 8, 8, 8, 8, requires_grad=True)
    lesion = torch.zeros(1, 8, 8, 8, 8)
    lesion[0, 0, :, :, :4] = 1  # half of the image
    lesion[0, 1, :2, :2, :4] = 1  # 16 voxels
    even = torch.ones(1, 8, 8, 8)
    loss = segmentation_loss(output(torch.zeros(1, 8, 8, 8, 8), logits), region, lesion, even)
    (gradient,) = torch.autograd.grad(loss["lesion"], logits)
    pull = [float(gradient[0, k][lesion[0, k] > 0].sum()) for k in (0, 1)]
    assert pull[0] == pytest.approx(pull[1], rel=1e-4)


def test_small_nodules_weigh_as_much_as_large_ones() -> None:
    lesion = torch.zeros(8, 12, 12, 12)
    lesion[1, 1:3, 1:3, 1:3] = 1  # 8 voxels of 36 mm3
    lesion[1, 6:10, 6:10, 6:10] = 1  # 64
    lesion[1, 10, 10, 10] = 0.5  # at a corner of it
    lesion[4, :, 0] = 1  # no nodule
    weight = nodule_weights(lesion, EncoderConfig(strides=((1, 1, 1),) * 4))
    assert weight[1, 1, 1] == pytest.approx(EVEN_MM3 / (8 * 36))
    assert weight[6, 6, 6] == weight[10, 10, 10] == pytest.approx(EVEN_MM3 / (64.5 * 36))
    assert weight[0, 0, 0] == weight[5, 5, 5] == 1
    assert nodule_weights(lesion, EncoderConfig(strides=((4, 4, 4),) * 4)).min() == pytest.approx(
        NODULE_WEIGHTS[0]
    )
    logits = torch.zeros(1, 8, 12, 12, 12, requires_grad=True)
    region = torch.zeros((1, 12, 12, 12), dtype=torch.long)
    answer = output(torch.zeros(1, 8, 12, 12, 12), logits)
    loss = segmentation_loss(answer, region, lesion[None], weight[None])["lesion"]
    (gradient,) = torch.autograd.grad(loss, logits)
    small, large = gradient[0, 1, 1:3, 1:3, 1:3].sum(), gradient[0, 1, 6:10, 6:10, 6:10].sum()
    assert float(small) == pytest.approx(float(large), rel=0.02)


def test_the_inside_of_a_nodule_taken_for_another_lobe_costs() -> None:
    """Among all voxels it is nothing; but the nodule is then reported twice."""
    region = torch.ones((1, 16, 16, 16), dtype=torch.long)
    lesion = torch.zeros(1, 8, 16, 16, 16)
    lesion[0, 2, 7:9, 7:9, 7:9] = 1
    seen = region.clone()
    seen[0, 7:9, 7:9, 7:9] = 4
    logits = torch.nn.functional.one_hot(seen, 8).movedim(-1, 1) * 10.0
    loss = segmentation_loss(
        output(logits, lesion * 20 - 10), region, lesion, torch.ones_like(seen)
    )
    assert loss["region"] < 0.03
    assert loss["region_in_nodules"] > 2


def test_a_deeper_encoder_starts_as_the_trained_one() -> None:
    trained = load_encoder(bundled("encoder"))
    assert isinstance(trained, Encoder)
    blocks = (2, 3, 2, 2, 2)
    deeper = Encoder(replace(trained.config, blocks=blocks))
    start_from(deeper, trained)
    image = make_sample(5, "demo", trained.config).image[None, None].float()
    with torch.no_grad():
        before, after = trained(image), deeper.eval()(image)
    old, new = (x.segmentation()[0].argmax(1) for x in (before, after))
    # Chance is an eighth: what changes is that inputs are not distributed normally.
    assert float((old == new).float().mean()) > 0.97
    with pytest.raises(RuntimeError, match="size mismatch"):
        start_from(Encoder(COARSE), trained)
    with pytest.raises(RuntimeError, match="nexpected key"):
        start_from(Encoder(replace(trained.config, blocks=(1, 1, 1, 1, 1))), trained)


def test_processes_that_render_on_another_device_end_in_peace() -> None:
    """With CUDA in them C++ aborts at their end, and PyTorch then raises in the trainer."""
    settings = PretrainEncoder(workers=2, render_on="cpu:0")
    stream = iter(_loader(settings, COARSE, batch_size=None))
    assert isinstance(next(stream), Sample)
    workers = stream._workers
    del stream
    for worker in workers:
        worker.join(20)
    assert [worker.exitcode for worker in workers] == [0, 0]


def test_a_short_run_learns_and_saves_what_load_encoder_reads(tmp_path: Path) -> None:
    lines: list[str] = []
    settings = PretrainEncoder(
        seconds=600,
        steps=130,
        batch_size=2,
        pool_size=12,
        workers=0,
        device="cpu",
        eval_studies=8,
    )
    figures = pretrain_encoder(tmp_path, settings, COARSE, lines.append)
    assert figures["steps"] == 130
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
