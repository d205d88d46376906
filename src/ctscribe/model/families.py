"""What differs between the families of language models that run through transformers' own code.

Visual tokens go in as embeddings, in training and in writing, so a family must take embeddings
exactly as it takes the ids that they stand for. What a family lacks for that is here.
"""

from __future__ import annotations

import importlib.util
import inspect
from types import MethodType
from typing import Any

import torch
from torch import nn

from ctscribe.errors import CheckpointError

# Families with recurrent layers, and the package whose compiled kernels transformers runs them on.
_KERNELS = {
    **dict.fromkeys(
        ("bamba", "falcon_h1", "granitemoehybrid", "jamba", "mamba2", "nemotron_h"), "mamba_ssm"
    ),
    **dict.fromkeys(("zamba", "zamba2"), "mamba_ssm"),
    **dict.fromkeys(("qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"), "fla"),
}
_TABLE = "use a family of the table in docs/STAGE2_AND_PYTORCH.md"


def family(model: nn.Module) -> str:
    """transformers' name of a model's family, such as mamba2."""
    config: Any = model.config
    return str(config.model_type)


def embed_scale(model: nn.Module) -> float:
    """What a model multiplies its table's rows by for ids, but not for embeddings it is given.

    Granite multiplies both, and Gemma's table does it: they need nothing here.
    """
    config: Any = model.config
    return float(config.embedding_multiplier) if family(model) == "falcon_h1" else 1.0


def transformers_path(model: nn.Module) -> str:
    """Which code runs the layers of a model that we do not run ourselves."""
    package = _KERNELS.get(family(model))
    if package is None:
        return "transformers"
    compiled = importlib.util.find_spec(package) is not None
    return f"transformers (recurrent layers: {package if compiled else 'PyTorch'})"


def generate_from_embeds(model: nn.Module) -> None:
    """Let this instance's `generate` start from embeddings, governed by its arguments alone.

    Hybrid families hand embeddings on but do not name them where `generate` looks for the name.
    The sampling settings that a model's folder may hold are put away: ours are the ones that count.
    """
    import transformers

    causal: Any = model
    neutral: Any = transformers.GenerationConfig
    causal.generation_config = neutral()
    prepare = causal.prepare_inputs_for_generation
    if "inputs_embeds" not in inspect.signature(prepare).parameters:
        causal.prepare_inputs_for_generation = MethodType(_prepare, causal)


def _prepare(model: Any, input_ids: Any, inputs_embeds: Any = None, **kwargs: Any) -> Any:
    # `kwargs` by this name tells `generate` that the arguments of `forward` may be given as well.
    own = type(model).prepare_inputs_for_generation
    return own(model, input_ids, inputs_embeds=inputs_embeds, **kwargs)


@torch.no_grad()
def check_embeds(model: nn.Module, table: nn.Module, folder: Any) -> None:
    """Write two tokens from ids and from their embeddings: the first scores must be the same.

    Raises CheckpointError, naming the family, if they are not, or if it cannot be done at all.
    """
    causal: Any = model
    ids = torch.arange(3, device=next(table.parameters()).device)[None]
    embeds = table(ids) * embed_scale(model)
    options: dict[str, Any] = {
        "attention_mask": torch.ones_like(ids),
        "do_sample": False,
        "max_new_tokens": 2,
        "min_new_tokens": 2,
        "pad_token_id": 0,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    try:
        wanted, got = (
            causal.generate(**start, **options).logits[0].float()
            for start in ({"input_ids": ids}, {"inputs_embeds": embeds})
        )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a family's code raises
        raise CheckpointError(
            f"its family {family(model)} cannot write on from embeddings: "
            + " ".join(str(error).split())[:200],
            file=folder,
            fix=_TABLE,
        ) from error
    if not bool((wanted - got).norm() <= 0.02 * wanted.norm()):
        raise CheckpointError(
            f"its family {family(model)} takes embeddings otherwise than the ids they stand for",
            file=folder,
            fix=_TABLE,
        )
