"""A tiny random Mamba with a tokenizer, and the same weights on transformers' own mixers."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers

from ctscribe.training.report_corpus import train_tokenizer, write_samples

transformers.utils.logging.set_verbosity_error()


@cache
def tokenizer() -> Any:
    samples = write_samples(60, seed=3, workers=1)
    return train_tokenizer([s.answer for s in samples], 700)


def stock_mamba(
    layers: int = 2,
    *,
    use_bias: bool = False,
    name: str = "Mamba",
    width: int = 24,
    states: int = 8,
) -> Any:
    """transformers' own, fp32, eval; `name` may be FalconMamba as well."""
    torch.manual_seed(0)
    kind: Any = getattr(transformers, f"{name}Config")
    config = kind(
        vocab_size=len(tokenizer()) + 9,
        hidden_size=width,
        num_hidden_layers=layers,
        state_size=states,
        use_bias=use_bias,
        eos_token_id=tokenizer().eos_token_id,
        pad_token_id=tokenizer().pad_token_id,
    )
    auto: Any = transformers.AutoModelForCausalLM
    model = auto.from_config(config)
    for parameter in model.parameters():  # away from the special values of the initialisation
        parameter.data += 0.2 * (24 / width) ** 0.5 * torch.randn_like(parameter)
    return model.eval()


def save(folder: Path, model: Any) -> Path:
    model.save_pretrained(str(folder))
    tokenizer().save_pretrained(str(folder))
    return folder
