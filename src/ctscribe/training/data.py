"""From rows of a table to what training reads: pooled image features, token ids, slot labels.

The encoder is frozen, so each image passes it once: its pooled features are kept in memory, and
on disk under a name made from the image's bytes, the encoder's weights and the image settings, so
that a kept feature can never be stale.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctscribe.errors import CtscribeError, DataError, ImageError
from ctscribe.files import write_atomically
from ctscribe.imaging.checks import ChestCheck, require_chest
from ctscribe.imaging.nifti import read_volume
from ctscribe.imaging.transforms import prepare, select_slices
from ctscribe.imaging.volume import Volume
from ctscribe.model.encoder import EncoderConfig
from ctscribe.model.head_loss import IGNORED
from ctscribe.model.llm import LLM
from ctscribe.model.pooling import Pooled
from ctscribe.model.vlm import Vision
from ctscribe.tables.manifest import Row

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


def encode(vision: Vision, image: Tensor) -> Encoded:
    """Encode a batch (B, 1, *space)."""
    dims = vision.encoder.config.spatial_dims
    shrink = (
        torch.nn.functional.adaptive_avg_pool3d
        if dims == 3
        else torch.nn.functional.adaptive_avg_pool2d
    )
    small = shrink(image.float(), THUMBNAIL_CELLS).flatten(1)
    return Encoded(vision.pool(image).to("cpu"), small.cpu())


T = TypeVar("T")
R = TypeVar("R")


def read_image(path: Path, case: str, config: EncoderConfig) -> Tensor:
    """An image file as the encoder's input (1, *space), refused if it holds no plausible chest.

    Raises ImageError naming case, file, reason and fix.
    """
    return to_input(read_volume(path, case=case), case, path, config)[0]


def to_input(
    volume: Volume,
    case: str,
    file: Path,
    config: EncoderConfig,
    mask: NDArray[np.uint8] | None = None,
) -> tuple[Tensor, ChestCheck]:
    """A volume as the encoder's input (1, *space), and what was measured on it.

    With an encoder of two dimensions one slice is read: where `mask` is largest, else where the
    most lung is seen. Raises ImageError if there is no plausible chest in it.
    """
    check = require_chest(volume, case=case, file=file)
    flat = config.spatial_dims == 2
    prepared = prepare(
        select_slices(volume, mask=mask, n=1) if flat else volume,
        spacing_zyx_mm=config.spacing_zyx_mm,
        window_hu=config.window_hu,
        margin_mm=config.margin_mm,
        multiple=(1, *config.multiple) if flat else config.multiple,
    )
    return (prepared.tensor[:, 0] if flat else prepared.tensor), check


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
    settings = f"{encoder_sha256} {config} {vision.pooling} {vision.pool_size} {vision.order} 1"
    parts: list[Encoded] = []
    errors: list[CtscribeError] = []

    def load(row: Row) -> tuple[Path | None, Tensor | None, Encoded | None, CtscribeError | None]:
        kept = None
        try:
            if cache is not None:
                key = hashlib.sha256(settings.encode() + _bytes(row)).hexdigest()[:32]
                kept = cache / f"{key}.safetensors"
                if kept.is_file():
                    return kept, None, _unpack(kept.read_bytes()), None
            return kept, read_image(row.image_path, row.case_id, config), None, None
        except CtscribeError as error:
            return kept, None, None, error

    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for kept, image, encoded, error in _ahead(pool, load, rows, max(2, workers)):
            if error is not None:
                errors.append(error)
            else:
                if encoded is None:
                    assert image is not None
                    encoded = encode(vision, image[None].to(device))
                    if kept is not None:
                        write_atomically(kept, _pack(encoded))
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
        Pooled(
            torch.cat([p.pooled.features for p in parts]),
            torch.cat([p.pooled.position_mm for p in parts]),
        ),
        torch.cat([p.thumbnail for p in parts]),
    )


def _pack(encoded: Encoded) -> bytes:
    tensors = {
        "features": encoded.pooled.features,
        "position_mm": encoded.pooled.position_mm,
        "thumbnail": encoded.thumbnail,
    }
    return safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()})


def _unpack(data: bytes) -> Encoded:
    tensors = safetensors.torch.load(data)
    return Encoded(Pooled(tensors["features"], tensors["position_mm"]), tensors["thumbnail"])


def _bytes(row: Row) -> bytes:
    try:
        return row.image_path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"the image cannot be read ({error.strerror})",
            case=row.case_id,
            file=row.image_path,
            fix="correct image_path in the table, or restore the file",
        ) from error


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
