"""A tiny random model of every family of language models that the documentation lists.

Multipliers are far from 1, layers of every kind are there, and pieces are small enough that the
chunks of a recurrent layer end within a short prompt.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers

from tests.model.tiny import tokenizer

OURS = ("Mamba", "FalconMamba")
_ATTENTION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
}
_MAMBA2: dict[str, Any] = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_chunk_size": 8,
}
_QWEN3_5: dict[str, Any] = {
    **_ATTENTION,
    "head_dim": 8,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
# By the name of the configuration's class.
_SETTINGS: dict[str, dict[str, Any]] = {
    "Mamba": {"hidden_size": 24, "num_hidden_layers": 2, "state_size": 8},
    "FalconMamba": {"hidden_size": 24, "num_hidden_layers": 2, "state_size": 8},
    "Mamba2": {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_heads": 6,
        "head_dim": 8,
        "state_size": 8,
        "n_groups": 2,
        "chunk_size": 8,
    },
    "GraniteMoeHybrid": {
        **_ATTENTION,
        **_MAMBA2,
        "layer_types": ["mamba", "attention", "mamba"],
        "num_local_experts": 4,
        "shared_intermediate_size": 16,
        "embedding_multiplier": 5.0,
        "residual_multiplier": 0.5,
        "logits_scaling": 0.3,
    },
    "FalconH1": {
        **_ATTENTION,
        **_MAMBA2,
        "mamba_d_ssm": 64,
        "embedding_multiplier": 5.0,
        "lm_head_multiplier": 3.0,
        "key_multiplier": 0.7,
        "ssm_in_multiplier": 0.8,
        "attention_in_multiplier": 0.9,
    },
    "NemotronH": {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "layers_block_type": ["mamba", "attention", "mamba", "moe"],
        "ssm_state_size": 8,
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "n_groups": 2,
        "chunk_size": 8,
        "intermediate_size": 48,
        "n_routed_experts": 4,
        "moe_intermediate_size": 16,
        "moe_shared_expert_intermediate_size": 16,
    },
    "Bamba": {**_ATTENTION, **_MAMBA2, "attn_layer_indices": [1]},
    "Zamba2": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "layers_block_type": ["mamba", "hybrid", "mamba"],
        "mamba_d_state": 8,
        "n_mamba_heads": 8,
        "chunk_size": 8,
        "adapter_rank": 4,
    },
    "Zamba": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "num_hidden_layers": 6,
        "attn_layer_period": 3,
        "attn_layer_offset": 1,
        "mamba_d_state": 8,
        "n_mamba_heads": 2,
    },
    "Jamba": {
        **_ATTENTION,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "num_experts": 2,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
    },
    "Qwen3_5Text": _QWEN3_5,
    "Qwen3": {**_ATTENTION, "head_dim": 8},
    "Llama": _ATTENTION,
    "Granite": {**_ATTENTION, "embedding_multiplier": 5.0, "logits_scaling": 0.3},
    "Gemma": {**_ATTENTION, "head_dim": 8},
}
NAMES = tuple(_SETTINGS)
_QWEN3_5_EYES: dict[str, Any] = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 4,
    "out_hidden_size": 32,
    "patch_size": 4,
    "num_position_embeddings": 16,
}


def settings(name: str, **changes: Any) -> Any:
    """transformers' configuration of a family, for our tokenizer and nine rows more."""
    kind: Any = getattr(transformers, f"{name}Config")
    tokens = {
        "vocab_size": len(tokenizer()) + 9,
        "eos_token_id": tokenizer().eos_token_id,
        "pad_token_id": tokenizer().pad_token_id,
        "bos_token_id": tokenizer().eos_token_id,
    }
    return kind(**tokens, **{"tie_word_embeddings": False, **_SETTINGS[name], **changes})


def shaken(model: Any) -> Any:
    """Every weight away from the special value of its initialisation, so that none is idle."""
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


def stock(name: str, **changes: Any) -> Any:
    """transformers' own model, fp32, eval; the same at every call."""
    torch.manual_seed(0)
    auto: Any = transformers.AutoModelForCausalLM
    return shaken(auto.from_config(settings(name, **changes)))


def qwen3_5_with_eyes() -> Any:
    """The whole of Qwen 3.5 as its folders hold it: a language model and an encoder of images."""
    torch.manual_seed(0)
    text = settings("Qwen3_5Text").to_dict()
    whole: Any = transformers.Qwen3_5Config(text_config=text, vision_config=_QWEN3_5_EYES)
    return shaken(transformers.Qwen3_5ForConditionalGeneration(whole))
