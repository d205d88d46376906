"""From rows of a table to what training reads: pooled image features, token ids, slot labels.

The encoder is frozen, so each image passes it once: its pooled features are kept in memory, and
on disk under a name made from the image's bytes, the encoder's weights and the image settings, so
that a kept feature can never be stale. What the encoder read is kept likewise (`imaging/cache.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.utils.data import WeightedRandomSampler

from ctscribe.errors import CtscribeError, DataError, ImageError
from ctscribe.imaging.cache import Cache, code_digest
from ctscribe.imaging.checks import ChestCheck, require_chest
from ctscribe.imaging.lungs import Box, lung_box, lungs_of
from ctscribe.imaging.nifti import read_mask, read_volume
from ctscribe.imaging.nodules import CONNECTED
from ctscribe.imaging.transforms import Prepared, choose_slice, slice_of, voxel_at
from ctscribe.imaging.volume import Volume
from ctscribe.model import pooling
from ctscribe.model.encoder import EncoderConfig
from ctscribe.model.head_loss import IGNORED
from ctscribe.model.llm import LLM
from ctscribe.model.nnunet_encoder import NnunetConfig
from ctscribe.model.pooling import Pooled, PoolingConfig
from ctscribe.model.vlm import Vision
from ctscribe.tables.manifest import Row
from ctscribe.tables.split import WEIGHT_COLUMN

Progress = Callable[[int], None]
THUMBNAIL_CELLS = 16  # a side, of the raw voxels kept for the nearest-image control


@dataclass(frozen=True)
class Encoded:
    """What is kept of each image: pooled features, and its voxels averaged to a small cube.

    thumbnail: (n, THUMBNAIL_CELLS ** spatial_dims), the control that knows voxels alone.
    """

    pooled: Pooled
    thumbnail: Tensor

    def rows(self, index: Sequence[int]) -> Encoded:
        """Some studies."""
        at = list(index)
        return Encoded(self.pooled.rows(at), self.thumbnail[at])


def encode(vision: Vision, image: Tensor, rois_mm: Tensor | None = None) -> Encoded:
    """Encode a batch (B, 1, *space); rois_mm (B, K, 3) as in `Vision.pool`."""
    cells = (THUMBNAIL_CELLS,) * vision.encoder.config.spatial_dims
    small = pooling.averaged(image.float(), cells).flatten(1)
    return Encoded(vision.pool(image, rois_mm).to("cpu"), small.cpu())


T = TypeVar("T")
R = TypeVar("R")
Keep = Callable[[dict[str, Tensor]], None]  # writes what was made of a study to the cache


@dataclass(frozen=True)
class StudyImage:
    """An image as the encoder reads it (1, *space), and what was measured on it.

    rois_mm: (K, 3) of the row's own RoIs, mm (z, y, x) from the image's middle, NaN for none.
    """

    image: Tensor
    rois_mm: Tensor
    check: ChestCheck | None = None

    @staticmethod
    def of(kept: dict[str, Tensor]) -> StudyImage:
        """From the tensors that a cache kept."""
        return StudyImage(kept["image"], kept["rois_mm"])


def read_study(row: Row, vision: Vision) -> StudyImage:
    """A row's image and RoIs as the encoder reads them; see `to_input`.

    Raises ImageError naming case, file, reason and fix.
    """
    volume = read_volume(row.image_path, case=row.case_id)
    mask = None
    if row.mask_path is not None:
        mask = read_mask(row.mask_path, like=volume, case=row.case_id)
    config = vision.encoder.config
    return to_input(volume, row.case_id, row.image_path, config, vision.pooling, mask, row.roi_mm)


def to_input(
    volume: Volume,
    case: str,
    file: Path,
    config: EncoderConfig | NnunetConfig,
    choice: PoolingConfig,
    mask: NDArray[np.uint8] | None = None,
    points_mm: Sequence[Sequence[float]] = (),
) -> StudyImage:
    """A volume as the encoder reads it, refused if it holds no plausible chest.

    The local stream looks at the largest parts of `mask`, else at `points_mm` (x, y, z in RAS+ mm).
    With an encoder of two dimensions one slice is read: that of the mask's largest area, else of
    the first point, else of the most lung. Raises ImageError naming case, file, reason and fix,
    also for a point outside the image or outside what the encoder reads of it.
    """
    check = require_chest(volume, case=case, file=file)
    assert check.lungs is not None
    flat = config.spatial_dims == 2
    try:
        if flat:
            z = choose_slice(volume, mask, *points_mm[:1])
            box = _slice_box(volume, z, config.margin_mm)
            mask = (
                None
                if mask is None
                else np.where(np.arange(len(mask))[:, None, None] == z, mask, 0)
            )
        else:
            box = lung_box(check.lungs, config.margin_mm)
        prepared = config.prepare(volume, box)
        rois = torch.full((choice.rois, 3), torch.nan)
        if choice.has_local:
            own = _own_rois(choice.roi_source, volume, prepared, mask, points_mm, flat)[
                : choice.rois
            ]
            rois[: len(own)] = torch.tensor(own, dtype=torch.float32).reshape(-1, 3)
    except ImageError as error:
        raise ImageError(error.reason, case=case, file=file, fix=error.fix) from error
    return StudyImage(prepared.tensor[:, 0] if flat else prepared.tensor, rois, check)


def _slice_box(volume: Volume, z: int, margin_mm: float) -> Box:
    """The lungs in one slice."""
    box = lung_box(lungs_of(slice_of(volume, z)), margin_mm)
    return Box((z, *box.low_zyx[1:]), (z + 1, *box.high_zyx[1:]))


def _own_rois(
    source: str,
    volume: Volume,
    prepared: Prepared,
    mask: NDArray[Any] | None,
    points_mm: Sequence[Sequence[float]],
    flat: bool,
) -> list[list[float]]:
    """The row's own RoIs in mm (z, y, x) from the middle of the prepared image."""
    if source in ("encoder", "centre"):
        return []
    points: Sequence[Sequence[float]] = points_mm
    if mask is not None and source != "points":
        points = _middles(mask, volume)
        if not points:
            raise ImageError("the mask is empty", fix="give a mask that marks something")
    elif source == "mask" or (source == "points" and not points):
        column = "mask_path" if source == "mask" else "roi_mm"
        raise ImageError(
            f"roi_source is {source}, but this row has no {column}",
            fix=f"fill in {column}, or set roi_source: auto",
        )
    found = []
    for point in points:
        voxel_at(volume, point)  # raises if it is outside
        index = prepared.from_mm(point)
        size = np.array(prepared.tensor.shape[1:])
        beyond = (index < -0.5) | (index > size - 0.5)
        beyond[0] &= not flat
        if beyond.any():
            reach = " x ".join(
                f"{n * mm:.0f}" for n, mm in zip(size, prepared.spacing_zyx_mm, strict=True)
            )
            raise ImageError(
                f"the RoI at {tuple(round(float(mm), 1) for mm in point)} mm lies outside the "
                f"{reach} mm (z, y, x) around the lungs that the encoder reads",
                fix="give a point in the lungs, in the image's own RAS+ millimetres (x, y, z)",
            )
        offset = (index - (size - 1) / 2) * prepared.spacing_zyx_mm
        found.append([0.0 if flat and axis == 0 else float(mm) for axis, mm in enumerate(offset)])
    return found


def _middles(mask: NDArray[Any], volume: Volume) -> list[tuple[float, float, float]]:
    """Middles of the mask's connected parts in RAS+ mm (x, y, z), the largest first."""
    label, count = ndimage.label(mask > 0, CONNECTED)
    numbers = np.arange(1, count + 1)
    sizes = ndimage.sum_labels(mask > 0, label, numbers)
    middles = np.array(ndimage.center_of_mass(mask > 0, label, numbers)).reshape(-1, 3)
    points = []
    for k in np.argsort(-sizes, kind="stable"):
        x, y, z = (volume.affine @ [*middles[k][::-1], 1.0])[:3]
        points.append((float(x), float(y), float(z)))
    return points


def encode_rows(
    rows: Sequence[Row],
    vision: Vision,
    *,
    encoder_sha256: str,
    cache: Path | None,
    device: str = "cpu",
    workers: int = 2,
    progress: Progress | None = None,
) -> Encoded:
    """Every row's image, in order.

    Raises DataError naming every image that cannot be used (up to five), after all were tried.
    """
    config = vision.encoder.config
    code = code_digest(__file__, *map(str, sorted(Path(pooling.__file__).parent.glob("*.py"))))
    choice = vision.pooling
    prepared = f"{code} {config} {choice.has_local and (choice.rois, choice.roi_source)}"
    settings = f"{code} {encoder_sha256} {config} {choice}"
    store = None if cache is None else Cache(cache)
    parts: list[Encoded] = []
    errors: list[CtscribeError] = []

    def load(
        row: Row,
    ) -> tuple[Keep | None, StudyImage | None, Encoded | None, CtscribeError | None]:
        def make() -> dict[str, Tensor]:
            study = read_study(row, vision)
            return {"image": study.image, "rois_mm": study.rois_mm}

        try:
            if store is None:
                return None, StudyImage.of(make()), None, None
            entry = store.entry(row.image_path, case=row.case_id)
            own = ""
            if row.mask_path is not None:
                mask = store.entry(row.mask_path, case=row.case_id)
                own = f"{mask.content} {mask.path.suffixes}"
            own += f" {row.roi_mm}"
            kept = entry.read(f"{settings} {own}")
            if kept is not None:
                return None, None, _unpack(kept), None
            study = StudyImage.of(entry.tensors(f"{prepared} {own}", make))
            return partial(entry.write, f"{settings} {own}"), study, None, None
        except CtscribeError as error:
            return None, None, None, error

    with ThreadPoolExecutor(max(1, workers)) as pool:
        for keep, study, encoded, error in _ahead(pool, load, rows, max(2, workers)):
            if error is not None:
                errors.append(error)
            else:
                if encoded is None:
                    assert study is not None
                    encoded = encode(vision, study.image[None].to(device), study.rois_mm[None])
                    if keep is not None:
                        keep(_pack(encoded))
                parts.append(encoded)
            if progress is not None:
                progress(1)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        listed = "; ".join(f"{e.case}: {e.reason}" for e in errors[:5])
        raise DataError(
            f"{len(errors)} of {len(rows)} images cannot be used: {listed}",
            file=errors[0].file,
            fix="run ctscribe clean with --drop-missing-paths, or put the files right",
        )
    return Encoded(
        Pooled.cat([p.pooled for p in parts]),
        torch.cat([p.thumbnail for p in parts]),
    )


def _pack(encoded: Encoded) -> dict[str, Tensor]:
    streams = {"": encoded.pooled}
    if encoded.pooled.local is not None:
        streams["local."] = encoded.pooled.local
    tensors = {"thumbnail": encoded.thumbnail}
    for name, stream in streams.items():
        tensors[f"{name}features"] = stream.features
        tensors[f"{name}position_mm"] = stream.position_mm
    return tensors


def _unpack(tensors: dict[str, Tensor]) -> Encoded:
    local = None
    if "local.features" in tensors:
        local = Pooled(tensors["local.features"], tensors["local.position_mm"])
    pooled = Pooled(tensors["features"], tensors["position_mm"], local)
    return Encoded(pooled, tensors["thumbnail"])


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[T], R], items: Sequence[T], depth: int
) -> Iterator[R]:
    """`map` in order that never holds more than `depth` results."""
    waiting = [pool.submit(work, item) for item in items[:depth]]
    for i in range(len(items)):
        result = waiting.pop(0).result()
        if i + depth < len(items):
            waiting.append(pool.submit(work, items[i + depth]))
        yield result


def sample_weights(rows: Sequence[Row]) -> Tensor | None:
    """The rows' column `sample_weight`, (n,) float64; None where no row has one.

    Raises DataError for a row without a weight among others that have one, or with one that is no
    positive number.
    """
    cells = [row.extra.get(WEIGHT_COLUMN, "") for row in rows]
    if not any(cells):
        return None
    weights = []
    for row, cell in zip(rows, cells, strict=True):
        try:
            weight = float(cell)
        except ValueError:
            weight = math.nan
        if not (math.isfinite(weight) and weight > 0):
            raise DataError(
                f"{WEIGHT_COLUMN} is {cell!r}, not a positive number",
                case=row.case_id,
                fix="run ctscribe split --sampler-weights again, or remove the column",
                code="bad-table",
            )
        weights.append(weight)
    return torch.tensor(weights, dtype=torch.float64)


def epoch_order(n: int, weights: Tensor | None) -> Tensor:
    """The n rows of an epoch by torch's seed: each once, or drawn by weight with replacement."""
    if weights is None:
        return torch.randperm(n)
    return torch.tensor(list(WeightedRandomSampler(weights.tolist(), n)))


@dataclass(frozen=True)
class TokenizedRows:
    """Token ids of every row: question, answer with end token, cut to `max_text_len` together."""

    questions: list[list[int]]
    answers: list[list[int]]
    truncated: int  # answers that lost their tail

    @property
    def truncation_rate(self) -> float:
        """Share of answers that lost their tail."""
        return self.truncated / max(1, len(self.answers))

    def rows(self, index: Sequence[int]) -> TokenizedRows:
        """Some rows; `truncated` stays that of all."""
        questions = [self.questions[i] for i in index]
        return TokenizedRows(questions, [self.answers[i] for i in index], self.truncated)


def tokenize_rows(rows: Sequence[Row], llm: LLM, max_text_len: int) -> TokenizedRows:
    """Tokenize; the question is never cut.

    Raises DataError if a question alone leaves no room for an answer.
    """
    questions, answers, truncated = [], [], 0
    for row in rows:
        question = llm.prompt_ids(row.question)
        answer = llm.answer_ids(row.answer)
        room = max_text_len - len(question)
        if room < 2:
            raise DataError(
                f"the question has {len(question)} tokens, which leaves no room for an answer in "
                f"max_text_len {max_text_len}",
                case=row.case_id,
                fix=f"shorten the question or set --max-text-len above {len(question) + 1}",
            )
        truncated += len(answer) > room
        questions.append(question)
        answers.append(answer[:room])
    return TokenizedRows(questions, answers, truncated)


def collate(tokens: TokenizedRows, index: Sequence[int], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """ids, mask and labels (B, L) of some rows, padded at the right; loss on answers only."""
    texts = [tokens.questions[i] + tokens.answers[i] for i in index]
    length = max(map(len, texts))
    ids = torch.full((len(texts), length), pad)
    mask = torch.zeros((len(texts), length), dtype=torch.long)
    labels = torch.full((len(texts), length), IGNORED)
    for b, (i, text) in enumerate(zip(index, texts, strict=True)):
        ids[b, : len(text)] = torch.tensor(text)
        mask[b, : len(text)] = 1
        start = len(tokens.questions[i])
        labels[b, start : len(text)] = torch.tensor(tokens.answers[i])
    return ids, mask, labels
