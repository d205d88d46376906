"""Stage 2's loop: what runs the step through the language model, and that it changes nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from ctscribe.config import CaptionConfig
from ctscribe.model.bridge import Bridge, BridgeConfig
from ctscribe.model.llm import LLM, load_llm
from ctscribe.model.pooling import Pooled
from ctscribe.model.vlm import VLM
from ctscribe.training.caption import CaptionStudies, caption, caption_loss
from ctscribe.training.data import TokenizedRows
from ctscribe.training.graphs import GraphedStep
from tests.model.tiny import save, stock_mamba

ROWS, WIDTH = 5, 24
CONFIG = CaptionConfig(epochs=3, batch_size=2, lr=3e-3, gradient_accumulation_steps=2)
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("llm"), stock_mamba())


def studies() -> CaptionStudies:
    """Answers of other lengths, so that batches have padding."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(ROWS, 6, 30, generator=generator)
    pooled = Pooled(features, torch.randn(ROWS, 6, 3, generator=generator) * 80)
    questions = [[5, 6, 7]] * ROWS
    answers = [list(range(10 + i, 14 + 5 * i)) for i in range(ROWS)]
    return CaptionStudies(pooled, TokenizedRows(questions, answers, 0))


def new_vlm(llm: LLM, step: Any = None) -> VLM:
    """The same bridge every time; no encoder."""
    torch.manual_seed(1)
    config = BridgeConfig(input_width=30, width=32, tokens=6, llm_width=WIDTH, dropout=0.0)
    bridge = Bridge(config).to(llm.device)
    vision: Any = SimpleNamespace(bridge=bridge, cmi=None, pooling="grid")
    return VLM(vision, llm, step)


def curve(vlm: VLM) -> list[float]:
    losses: list[float] = []
    device = vlm.llm.device.type
    caption(
        vlm, studies(), config=CONFIG, device=device, on_step=lambda step: losses.append(step.loss)
    )
    return [*losses, caption_loss(vlm, studies(), 2, device)]


@pytest.mark.parametrize("device", DEVICES)
def test_the_graphed_step_gives_the_same_losses(device: str, folder: Path) -> None:
    llm = load_llm(folder, device=device)
    for lean in (False, True):
        llm.checkpoint_blocks(lean)
        graphed = GraphedStep(llm)
        plain, ours = curve(new_vlm(llm)), curve(new_vlm(llm, graphed))
        assert len(plain) == 3 * 2 + 1
        assert plain[-1] < plain[0] - 0.01
        assert ours == (plain if device == "cpu" else pytest.approx(plain, rel=1e-3))
        assert bool(graphed._graphs) == (device == "cuda")


def test_every_step_of_training_goes_through_it(folder: Path) -> None:
    llm = load_llm(folder)
    seen: list[tuple[bool, tuple[int, ...]]] = []

    def step(embeds: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        assert embeds.shape[:2] == mask.shape == labels.shape
        seen.append((embeds.requires_grad, tuple(embeds.shape)))
        return llm.forward_embeds(embeds, mask, labels)

    vlm = new_vlm(llm, step)
    caption(vlm, studies(), config=CONFIG, device="cpu")
    assert [grad for grad, _ in seen] == [True] * 3 * 3
    assert all(shape[1] > 6 + 3 and shape[2] == WIDTH for _, shape in seen)
    seen.clear()
    caption_loss(vlm, studies(), 2, "cpu")
    assert [grad for grad, _ in seen] == [False] * 3
