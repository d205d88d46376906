"""Language models other than Mamba: written by transformers' own `generate`."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Generator, Sequence
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

from ctscribe.generation.picker import Rules
from ctscribe.model.llm import LLM


def write(
    llm: LLM,
    embeds: Tensor,
    mask: Tensor,
    limit: int,
    rules: Rules,
    stop: Sequence[str],
    seed: int,
    **more: Any,
) -> list[list[int]]:
    """Tokens of each prompt (B, L, width); after a text's end token comes padding."""
    options: dict[str, Any] = {
        "max_new_tokens": limit,
        "min_new_tokens": rules.min_new_tokens or None,
        "do_sample": rules.do_sample,
        "repetition_penalty": rules.repetition_penalty,
        "no_repeat_ngram_size": rules.no_repeat_ngram_size,
        "num_beams": rules.num_beams,
    }
    if rules.do_sample:
        options |= {"temperature": rules.temperature, "top_p": rules.top_p, "top_k": 0}
    if rules.num_beams > 1:
        options |= {"length_penalty": rules.length_penalty, "early_stopping": False}
    if stop and rules.num_beams == 1:  # what beam search makes of them is `generate`'s promise
        options |= {"stop_strings": list(stop), "tokenizer": llm.tokenizer}
    unused = torch.nonzero(llm.unused_ids())[:, 0].tolist()
    devices = [embeds.device] if embeds.device.type == "cuda" else []
    with torch.random.fork_rng(devices), warnings.catch_warnings(), torch.no_grad():
        # That they spare prompts of embeddings is what `generate` promises.
        for name in ("repetition_penalty", "no_repeat_ngram_size"):
            warnings.filterwarnings("ignore", message=f"Passing `{name}`")
        torch.manual_seed(seed)
        ids = llm.base.generate(
            inputs_embeds=embeds,
            attention_mask=mask,
            eos_token_id=llm.eos_id,
            pad_token_id=llm.pad_id,
            suppress_tokens=unused or None,
            **options,
            **more,
        )
    return ids.tolist()  # type: ignore[no-any-return]


def follow(
    llm: LLM,
    embeds: Tensor,
    mask: Tensor,
    limit: int,
    rules: Rules,
    stop: Sequence[str],
    seed: int,
) -> Generator[list[list[int]], None, None]:
    """As `write`, for one prompt, yielding its tokens as they come.

    transformers writes in a thread of its own, which ends with this generator.
    """
    queue: SimpleQueue[list[int] | BaseException | None] = SimpleQueue()
    left = threading.Event()

    def work() -> None:
        try:
            more = {"streamer": _Streamer(queue), "stopping_criteria": [_leave_when(left)]}
            write(llm, embeds, mask, limit, rules, stop, seed, **more)
            queue.put(None)
        except BaseException as error:
            queue.put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (tokens := queue.get()) is not None:
            if isinstance(tokens, BaseException):
                raise tokens
            yield [tokens]
    finally:
        left.set()
        thread.join()


class _Streamer:
    """What transformers' `generate` hands each token to; it begins with the prompt's, none here."""

    def __init__(self, queue: SimpleQueue[list[int] | BaseException | None]) -> None:
        self._queue = queue

    def put(self, value: Tensor) -> None:
        """Pass tokens on."""
        self._queue.put(value.reshape(-1).tolist())

    def end(self) -> None:
        """Called after the last token."""


def _leave_when(left: threading.Event) -> Any:
    """A stopping criterion of transformers: nobody reads any more."""
    import transformers

    class Leave(transformers.StoppingCriteria):
        def __call__(self, input_ids: Tensor, scores: Any, **ignored: Any) -> Tensor:
            return torch.full(
                (input_ids.shape[0],), left.is_set(), dtype=torch.bool, device=input_ids.device
            )

    return Leave()
