"""Pretrain the demo's encoder by segmentation of fresh phantoms: the role nnU-Net plays elsewhere.

Worker processes render studies and prepare them exactly as `ctscribe report` would; a pool in the
trainer's memory keeps the newest, so that no study is seen more than a few times. Loss: regions by
cross-entropy and Dice; lesions by CenterNet's focal loss (Zhou et al. 2019, eq. 1), normalised per
class by its own positives, so that an 8 mm nodule weighs as much as a litre of effusion. Nodules of
any size weigh about the same: one of 24 mm has 64 times the voxels of one of 6 mm. Cross-entropy
of the regions counts the voxels of nodules once more: they are one in a thousand, and an encoder
that may take a nodule's inside for another lobe reports the nodule in two.
"""

from __future__ import annotations

import math
import multiprocessing.util
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from scipy.ndimage import label, sum_labels
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, cross_entropy, logsigmoid, one_hot
from torch.optim.swa_utils import AveragedModel

from ctscribe.imaging.nodules import CONNECTED
from ctscribe.imaging.transforms import prepare_tensor
from ctscribe.model.encoder import Encoder, EncoderConfig, EncoderOutput
from ctscribe.model.encoders import load_encoder, save_encoder
from ctscribe.phantom.findings import LESIONS
from ctscribe.phantom.render import render_study, sample_study
from ctscribe.reports.schema import DENSITIES
from ctscribe.training.data import Progress
from ctscribe.training.setup import clip_gradient, in_percent

EXTENT_ZYX_MM = (288.0, 240.0, 336.0)  # every pretraining sample is cropped or padded to this
FIRST_BATCHES = 24  # of studies before training starts
EVEN_MM3 = 900.0  # a nodule of this volume (12 mm) has weight 1 in the loss, one of half of it 2
NODULE_WEIGHTS = (0.1, 16.0)  # least and most
REGION_IN_NODULES = 0.5  # weight of the term for the lobe that nodules' own voxels lie in
PRETRAINING_SEEDS = (
    1_000_000_000  # disjoint from the demo's and the tests' studies, which are below
)


@dataclass(frozen=True)
class PretrainEncoder:
    """Settings of one pretraining run."""

    seconds: float = 480.0  # stop the optimiser after this long
    steps: int = 12_000  # or after this many steps
    batch_size: int = 16
    lr: float = 2e-3
    pool_size: int = 8_000  # studies kept for reuse
    draws: int = 4  # from the pool for each new study
    workers: int = 14
    seed: int = 7
    device: str = "cuda"
    render_on: str = "cpu"  # or a GPU, a few workers of which render what 60 cores do
    profile: str = "demo"  # of the studies it learns from
    eval_studies: int = 400  # held-out studies that the figures are of
    eval_profile: str = "demo"
    start: Path | None = None  # an encoder to start from, of the same shapes or with fewer blocks


class Sample(NamedTuple):
    """One prepared study.

    image: float16 on the grid of `grid_of`, [-1, 1]. region, lesion: uint8, the `targets` on the
    fine grid of the encoder; lesion (K, ...) in 1/255. weight: float16, of `nodule_weights`.
    """

    image: Tensor
    region: Tensor
    lesion: Tensor
    weight: Tensor


def make_sample(
    seed: int, profile: str, config: EncoderConfig, device: torch.device | str = "cpu"
) -> Sample:
    """Render one study of the pretraining seeds and prepare it as the encoder's input; on the CPU.

    device: where it is computed. Noise is another on a GPU, all else the same.
    """
    study = sample_study(PRETRAINING_SEEDS + seed, PRETRAINING_SEEDS + seed, profile)
    rendered = render_study(study, device)
    prepared = prepare_tensor(
        rendered.hu_zyx.round(),
        study.spacing_zyx_mm,
        spacing_zyx_mm=config.spacing_zyx_mm,
        window_hu=config.window_hu,
        margin_mm=config.margin_mm,
        multiple=config.multiple,
    )
    rng = np.random.default_rng(seed)
    grid = grid_of(config)
    corner = [
        int(rng.integers(min(0, n - m), max(0, n - m) + 1))
        for n, m in zip(prepared.tensor.shape[1:], grid, strict=True)
    ]
    image = _window(prepared.tensor[0], corner, grid, -1.0).half()
    region = _window(prepared.labels(rendered.region_zyx), corner, grid, 0)
    lesion = _window(prepared.labels(rendered.lesion_zyx), corner, grid, 0)
    majority, share = targets(region[None], lesion[None], config)
    share = share[0].cpu()
    weight = nodule_weights(share, config)
    sample = Sample(image, majority[0].byte(), (255 * share).round().byte(), weight.half())
    return Sample(*(tensor.cpu() for tensor in sample))


def nodule_weights(lesion: Tensor, config: EncoderConfig) -> Tensor:
    """Weight (Z, Y, X) in the loss of what nodules lie in, by their volume; 1 elsewhere.

    lesion: (K, Z, Y, X) target in 0 .. 1 of one study, nodules first, on the CPU.
    """
    stride = config.stride_at(config.output_stage)
    voxel_mm3 = math.prod(config.spacing_zyx_mm) * math.prod(stride)
    weight = torch.ones(lesion.shape[1:])
    for target in lesion[: len(DENSITIES)].numpy():
        part, n = label(target > 0, CONNECTED)
        if n:
            volume = voxel_mm3 * sum_labels(target, part, np.arange(n + 1))
            of_part = np.clip(EVEN_MM3 / np.maximum(volume, 1.0), *NODULE_WEIGHTS)
            inside = torch.from_numpy(part > 0)
            weight[inside] = torch.from_numpy(of_part[part[part > 0]]).float()
    return weight


def grid_of(config: EncoderConfig) -> tuple[int, int, int]:
    """Voxels (z, y, x) of a pretraining sample: EXTENT_ZYX_MM, rounded up to what it divides by."""
    z, y, x = (
        math.ceil(mm / (step * n)) * n
        for mm, step, n in zip(EXTENT_ZYX_MM, config.spacing_zyx_mm, config.multiple, strict=True)
    )
    return z, y, x


def _window(array: Tensor, corner: list[int], grid: tuple[int, int, int], fill: float) -> Tensor:
    """Crop or pad to `grid` from `corner`, which is negative where padding comes first."""
    out = torch.full(grid, fill, dtype=array.dtype, device=array.device)
    source = tuple(
        slice(max(c, 0), min(c + m, n)) for c, m, n in zip(corner, grid, array.shape, strict=True)
    )
    target = tuple(slice(s.start - c, s.stop - c) for s, c in zip(source, corner, strict=True))
    out[target] = array[source]
    return out


class _Studies(torch.utils.data.IterableDataset[Sample]):
    """An endless stream of fresh studies; workers take every n-th seed."""

    def __init__(self, settings: PretrainEncoder, config: EncoderConfig) -> None:
        self.settings, self.config = settings, config

    def __iter__(self) -> Iterator[Sample]:
        torch.set_num_threads(1)
        info = torch.utils.data.get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        seed = self.settings.seed * 10_000_000 + first
        while True:
            yield make_sample(seed, self.settings.profile, self.config, self.settings.render_on)
            seed += step


def _loader(settings: PretrainEncoder, config: EncoderConfig, **options: Any) -> Any:
    on_gpu = settings.workers > 0 and settings.render_on != "cpu"
    return torch.utils.data.DataLoader(
        _Studies(settings, config),
        num_workers=settings.workers,
        # A forked process cannot use a GPU.
        multiprocessing_context="spawn" if on_gpu else None,
        worker_init_fn=_end_at_once if on_gpu else None,
        **options,
    )


def _end_at_once(_: int) -> None:
    """Let this worker end without destroying what C++ holds: with CUDA there, that aborts it."""
    multiprocessing.util.Finalize(None, os._exit, (0,), exitpriority=-100)


class _Pool:
    """The newest studies, as stacked tensors on the training device."""

    def __init__(self, size: int, first: Sample, device: str) -> None:
        self.kept = Sample(
            *(torch.empty((size, *x.shape), dtype=x.dtype, device=device) for x in first)
        )
        self.size, self.seen = size, 0
        self.add(first)

    def add(self, sample: Sample) -> None:
        for kept, new in zip(self.kept, sample, strict=True):
            kept[self.seen % self.size] = new
        self.seen += 1

    def draw(self, n: int, generator: torch.Generator) -> Sample:
        at = torch.randint(min(self.seen, self.size), (n,), generator=generator)
        return Sample(*(kept[at.to(kept.device)] for kept in self.kept))


def targets(region: Tensor, lesion: Tensor, config: EncoderConfig) -> tuple[Tensor, Tensor]:
    """Labels on the fine grid: region (B, Z, Y, X) by majority, lesion (B, K, Z, Y, X) in 0..1.

    A coarse voxel that a lesion fills by half counts in full, so that small nodules have a target.
    """
    stride: Any = config.stride_at(config.output_stage)
    regions = one_hot(region.long(), len(config.regions)).movedim(-1, 1).float()
    bits = torch.arange(len(config.lesions), device=lesion.device)
    lesions = ((lesion[:, None].int() >> bits[:, None, None, None]) & 1).float()
    majority = avg_pool3d(regions, stride, stride).argmax(1)
    return majority, (2 * avg_pool3d(lesions, stride, stride)).clamp_max(1)


def truth_of(batch: Sample) -> tuple[Tensor, Tensor, Tensor]:
    """Targets and weights of a batch of samples as `segmentation_loss` takes them."""
    return batch.region.long(), batch.lesion.float() / 255, batch.weight.float()


def segmentation_loss(
    output: EncoderOutput, region: Tensor, lesion: Tensor, weight: Tensor
) -> dict[str, Tensor]:
    """The terms of the loss; see the module's docstring."""
    region_logits, logits = (x.float() for x in output.segmentation())
    probability = region_logits.softmax(1)
    truth = one_hot(region, probability.shape[1]).movedim(-1, 1).float()
    p = logits.sigmoid()
    dims = (0, 2, 3, 4)
    weighed = lesion * weight[:, None]
    positive = -(weighed * (1 - p) ** 2 * logsigmoid(logits)).sum(dims)
    negative = -((1 - lesion) ** 4 * p**2 * logsigmoid(-logits)).sum(dims)
    focal = (positive + negative) / weighed.sum(dims).clamp_min(10.0)
    present = lesion.sum((2, 3, 4)) > 0
    lesion_dice = (_dice_loss(p, lesion) * present).sum() / present.sum().clamp_min(1)
    crossed = cross_entropy(region_logits, region, reduction="none")
    nodule = lesion[:, : len(DENSITIES)].amax(1)
    return {
        "region": crossed.mean(),
        "region_in_nodules": REGION_IN_NODULES
        * (crossed * nodule).sum()
        / nodule.sum().clamp_min(10.0),
        "region_dice": _dice_loss(probability, truth)[:, 1:6].mean(),
        "lesion": focal.mean(),
        "lesion_dice": lesion_dice,
    }


def _dice_loss(p: Tensor, truth: Tensor) -> Tensor:
    """1 - soft Dice, (B, K)."""
    overlap = (p * truth).sum((2, 3, 4))
    total = p.sum((2, 3, 4)) + truth.sum((2, 3, 4))
    return torch.sub(1, (2 * overlap + 1) / (total + 1))


def augment(image: Tensor, generator: torch.Generator) -> Tensor:
    """Scanner differences: contrast, offset and noise; (B, Z, Y, X). Never mirrored."""
    n, device = len(image), image.device
    scale, offset, noise = torch.rand((3, n, 1, 1, 1), generator=generator).to(device).unbind()
    image = image.float() * (0.94 + 0.12 * scale) + 0.06 * (offset - 0.5)
    return torch.add(image, torch.randn_like(image) * (0.02 * noise))


def pretrain_encoder(
    folder: Path,
    settings: PretrainEncoder,
    config: EncoderConfig | None = None,
    log: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, save to `folder` (float16) and return the figures on studies of later seeds.

    progress: of a bar of 100.
    """
    config = config or EncoderConfig()
    assert config.lesions == LESIONS, "the phantoms' lesion bits are in this order"
    torch.manual_seed(settings.seed)
    device = settings.device
    encoder = Encoder(config)
    if settings.start is not None:
        start_from(encoder, cast(Encoder, load_encoder(settings.start)))
    encoder.to(device)
    average = AveragedModel(encoder, avg_fn=_moving_average)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=settings.lr, weight_decay=0.02)
    generator = torch.Generator().manual_seed(settings.seed)
    ahead = 4 if settings.workers else None
    stream = iter(_loader(settings, config, batch_size=None, prefetch_factor=ahead))
    began = time.monotonic()
    pool = _Pool(settings.pool_size, next(stream), device)
    while pool.seen < min(settings.pool_size, FIRST_BATCHES * settings.batch_size):
        pool.add(next(stream))
    log(f"{pool.seen} studies after {time.monotonic() - began:.0f} s; training starts")
    start = time.monotonic()
    step, share = 0, 0.0
    tell = in_percent(progress)
    running: dict[str, float] = {}
    fresh_per_step = settings.batch_size / settings.draws
    while share < 1:
        lr = settings.lr * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * np.cos(np.pi * min(share, 1)))
        for group in optimizer.param_groups:
            group["lr"] = lr + 1e-6
        while pool.seen < FIRST_BATCHES * settings.batch_size + step * fresh_per_step:
            pool.add(next(stream))
        sample = pool.draw(settings.batch_size, generator)
        with torch.no_grad():
            image = augment(sample.image, generator)[:, None]
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            output = encoder(image)
        terms = segmentation_loss(output, *truth_of(sample))
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradient(encoder.parameters(), 5.0)
        optimizer.step()
        average.update_parameters(encoder)
        step += 1
        share = max((time.monotonic() - start) / settings.seconds, step / settings.steps)
        tell(share)
        if step % 100 == 0:
            running = {k: round(float(v.detach()), 4) for k, v in terms.items()}
            log(f"step {step} {time.monotonic() - start:.0f} s, {pool.seen} studies: {running}")
    seen = pool.seen
    del pool, stream  # a GPU's memory, and the workers'
    trained = cast(Encoder, average.module).eval()
    save_encoder(trained, folder, half=True)
    figures = evaluate_encoder(trained, settings, config, n=settings.eval_studies)
    return {
        "steps": step,
        "studies": seen,
        "seconds": round(time.monotonic() - began, 1),
        "parameters": sum(p.numel() for p in trained.parameters()),
        "last_loss": running,
        **figures,
    }


@torch.no_grad()
def start_from(encoder: Encoder, trained: Encoder) -> None:
    """Take over trained weights; convolutions that `trained` lacks begin by passing on their input.

    Raises RuntimeError where the two differ in anything else.
    """
    given = trained.state_dict()
    encoder.load_state_dict(encoder.state_dict() | given)
    normal = torch.special.ndtri((torch.arange(1000) + 0.5) / 1000)
    for i, stage in enumerate(encoder.stages):
        for j, (before, new) in enumerate(pairwise(cast(Any, stage)), 1):
            if f"stages.{i}.{j}.0.weight" in given:
                continue
            # The norm takes the input to mean 0 and deviation 1; its scale and shift undo that, if
            # what the norm before gives is distributed about normally.
            _, norm, activation = before
            comes = activation(norm.weight[:, None] * normal + norm.bias[:, None])
            nn.init.dirac_(new[0].weight)
            new[1].weight.copy_(comes.std(1))
            new[1].bias.copy_(comes.mean(1))


def _moving_average(average: Tensor, current: Tensor, number: Tensor | int) -> Tensor:
    """Exponential, over 500 steps, but never over more than a tenth of those that were taken."""
    decay = min(0.998, (1 + float(number)) / (10 + float(number)))
    return average + (current - average) * (1 - decay)


@torch.inference_mode()
def evaluate_encoder(
    encoder: Encoder, settings: PretrainEncoder, config: EncoderConfig, n: int
) -> dict[str, float]:
    """Dice of the regions and, per lesion class, the AUROC of its strongest voxel per study."""
    from sklearn.metrics import roc_auc_score

    held_out = replace(settings, seed=settings.seed + 1, profile=settings.eval_profile)
    dice, score, truth = [], [], []
    for i, sample in enumerate(_loader(held_out, config, batch_size=8)):
        if i * 8 >= n:
            break
        device = settings.device
        sample = Sample(*(x.to(device) for x in sample))
        region, lesion, _ = truth_of(sample)
        output = encoder(sample.image[:, None].float())
        region_logits, lesion_logits = output.segmentation()
        guess = one_hot(region_logits.argmax(1), len(config.regions)).movedim(-1, 1)
        real = one_hot(region, len(config.regions)).movedim(-1, 1)
        dice.append(1 - _dice_loss(guess.float(), real.float())[:, 1:6])
        score.append(lesion_logits.amax((2, 3, 4)))
        truth.append(lesion.amax((2, 3, 4)) > 0)
    scores, truths = torch.cat(score).cpu().numpy(), torch.cat(truth).cpu().numpy()
    figures = {"lobe_dice": float(torch.cat(dice).mean())}
    for k, name in enumerate(config.lesions):
        if 0 < truths[:, k].sum() < len(truths):
            figures[f"auroc_{name}"] = float(roc_auc_score(truths[:, k], scores[:, k]))
    return {k: round(v, 4) for k, v in figures.items()}
