"""Reports from pooled images: visual tokens and question go in, the model's own text comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch

from ctscribe.generation.decode import Generated, generate
from ctscribe.model.pooling import Pooled
from ctscribe.model.vlm import VLM


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen: options of `generate`."""

    max_new_tokens: int = 320
    do_sample: bool = False
    temperature: float = 0.7
    top_p: float = 0.9
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    num_beams: int = 1
    stop: tuple[str, ...] = ()
    seed: int = 0


@torch.no_grad()
def write_reports(
    vlm: VLM,
    pooled: Pooled,
    questions: Sequence[str],
    decoding: Decoding,
    *,
    device: str,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> list[Generated]:
    """One report for each study of `pooled` (n, L, D), in order.

    Studies with the same question are generated together. Text is exactly what the model wrote;
    an empty one stays empty.
    """
    written: list[Generated | None] = [None] * len(questions)
    for question in dict.fromkeys(questions):
        group = [i for i, q in enumerate(questions) if q == question]
        prompt = torch.tensor([vlm.llm.prompt_ids(question)], device=device)
        for start in range(0, len(group), batch_size):
            index = group[start : start + batch_size]
            part = pooled.rows(index).to(device)
            prefix = vlm.prefix(part, prompt.expand(len(index), -1))
            mask = torch.ones(prefix.shape[:2], dtype=torch.long, device=device)
            texts = generate(
                vlm.llm,
                prefix,
                mask,
                **asdict(decoding),
            )
            for i, text in zip(index, texts, strict=True):
                written[i] = text
            if progress is not None:
                progress(len(index))
    return [text for text in written if text is not None]
