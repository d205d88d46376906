"""The inputs and the random model that benchmarks/mamba.py measures: shapes of mamba-2.8b."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from ctscribe.model.llm import IGNORED, LLM
from ctscribe.model.mamba import use_our_mixers


@dataclass(frozen=True)
class Shapes:
    """What is measured; the smaller set only shows that everything runs."""

    layers: int = 64
    width: int = 2560
    inner: int = 5120  # D of the scan
    state: int = 16
    rank: int = 160
    vocab: int = 50280
    words: int = 50277  # rows of the vocabulary that are tokens
    dtype: torch.dtype = torch.bfloat16
    scan_forward: tuple[int, int] = (1, 8192)  # batch, length
    scan_large: tuple[int, int] = (4, 2048)
    scan_small: tuple[int, int] = (1, 608)
    step_batches: tuple[int, ...] = (1, 4)
    visual: int = 96  # tokens with a gradient, at the start
    prompt: int = 112
    answer: int = 400  # tokens with a loss, at the end
    decode_batches: tuple[int, ...] = (1, 16)
    decode_prompt: int = 128
    decode_tokens: tuple[int, int] = (64, 320)  # the time of one token is between these lengths
    peer_tokens: tuple[int, int] = (4, 28)
    prefill: tuple[int, ...] = (4096, 8192, 16384, 32768, 65536)
    few_layers: int = 16  # memory is compared between this many layers and all
    bridge: tuple[int, int, int] = (2, 4096, 1024)  # batch, length, D of the scan
    cpu_layer: tuple[int, int, int] = (608, 768, 96)  # length, width, rank; D is twice the width
    repeats: int = 30


QUICK = Shapes(
    layers=2,
    width=16,
    inner=32,
    state=8,
    rank=1,
    vocab=64,
    words=60,
    dtype=torch.float32,
    scan_forward=(1, 24),
    scan_large=(2, 16),
    scan_small=(1, 12),
    step_batches=(1, 4),
    visual=3,
    prompt=2,
    answer=4,
    decode_batches=(1, 16),
    decode_prompt=4,
    decode_tokens=(2, 5),
    peer_tokens=(2, 4),
    prefill=(16, 32),
    few_layers=1,
    bridge=(2, 8, 32),
    cpu_layer=(12, 16, 2),
    repeats=2,
)


class StubTokenizer:
    """As much of a tokenizer as running random weights needs; its end token is never written."""

    def __init__(self, words: int) -> None:
        # The end token stands among the rows without a token, which are never chosen: every text
        # gets the length that was asked for.
        self.words = words
        self.eos_token_id = self.pad_token_id = words

    def get_vocab(self) -> dict[str, int]:
        """One word a row."""
        return {str(i): i for i in range(self.words)}

    def decode(self, ids: Any, **options: Any) -> str:
        """The numbers themselves."""
        return " ".join(map(str, ids if isinstance(ids, (list, tuple)) else [ids]))


class RandomMamba:
    """A Mamba of random weights made on the device; its mixers are ours or transformers' own."""

    def __init__(self, shapes: Shapes, device: torch.device) -> None:
        config: Any = transformers.MambaConfig(
            vocab_size=shapes.vocab,
            hidden_size=shapes.width,
            num_hidden_layers=shapes.layers,
            state_size=shapes.state,
            intermediate_size=shapes.inner,
            time_step_rank=shapes.rank,
            residual_in_fp32=True,
            eos_token_id=None,
            pad_token_id=None,
            bos_token_id=None,
        )
        torch.manual_seed(0)
        factory: Any = transformers.MambaForCausalLM
        with torch.device(device):
            model: Any = factory._from_config(config, dtype=shapes.dtype)
        model.lm_head.weight = model.backbone.embeddings.weight  # as mamba-2.8b has it
        self.model = model.eval().requires_grad_(False)
        self._theirs = [layer.mixer for layer in model.backbone.layers]
        use_our_mixers(model)
        self._ours = [layer.mixer for layer in model.backbone.layers]
        self.llm = LLM(self.model, StubTokenizer(shapes.words))

    @contextmanager
    def transformers_mixers(self) -> Iterator[Any]:
        """The model as transformers runs it."""
        self._use(self._theirs)
        try:
            yield self.model
        finally:
            self._use(self._ours)

    @contextmanager
    def fewer_layers(self, count: int) -> Iterator[None]:
        """The first layers alone."""
        backbone, layers = self.model.backbone, self.model.backbone.layers
        backbone.layers = nn.ModuleList(list(layers)[:count])
        try:
            yield
        finally:
            backbone.layers = layers

    def _use(self, mixers: list[Any]) -> None:
        for layer, mixer in zip(self.model.backbone.layers, mixers, strict=True):
            layer.mixer = mixer


@dataclass(frozen=True)
class Batch:
    """One batch of stage 2: visual tokens, then the prompt and the answer."""

    visual: Tensor  # (B, V, W), requires a gradient
    text: Tensor  # (B, L - V, W)
    mask: Tensor  # (B, L)
    labels: Tensor  # (B, L), on the CPU, as the training loop has them

    def embeds(self) -> Tensor:
        """What the language model reads."""
        return torch.cat([self.visual, self.text], 1)


def make_batch(random: RandomMamba, shapes: Shapes, batch: int, device: torch.device) -> Batch:
    """Random tokens, the loss on the answer alone."""
    g = torch.Generator(device).manual_seed(1)
    length = shapes.visual + shapes.prompt + shapes.answer
    ids = torch.randint(shapes.words, (batch, length), generator=g, device=device)
    embeds = random.llm.embed(ids)
    labels = ids.clone()
    labels[:, : -shapes.answer] = IGNORED
    return Batch(
        embeds[:, : shapes.visual].detach().requires_grad_(),
        embeds[:, shapes.visual :].detach(),
        torch.ones_like(ids),
        labels.cpu(),
    )


def scan_inputs(
    shapes: Shapes, batch: int, length: int, device: torch.device, *, seed: int = 0
) -> dict[str, Tensor]:
    """What a mixer gives its scan: z is a strided view of one projection, dt, B, C of another."""
    g = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, device=device).to(shapes.dtype)

    d, n = shapes.inner, shapes.state
    z = normal(batch, length, 2 * d).chunk(2, -1)[1]
    _, B, C = normal(batch, length, shapes.rank + 2 * n).split([shapes.rank, n, n], -1)
    rates = torch.arange(1, n + 1, device=device, dtype=torch.float32)
    return {
        "u": normal(batch, length, d),
        "dt": normal(batch, length, d),
        "A": -rates.repeat(d, 1),
        "B": B,
        "C": C,
        "D": normal(d).float(),
        "z": z,
        "dt_bias": normal(d).float() - 4,  # parameters of the scan are fp32, as in every backend
    }


def copies(values: dict[str, Tensor]) -> int:
    """How many sets of inputs are larger together than a GPU's L2 cache, several times over."""
    size = sum(v.numel() * v.element_size() for v in values.values())
    return max(3, min(16, -(-(256 << 20) // size)))
