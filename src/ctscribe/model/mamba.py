"""transformers' Mamba and Falcon-Mamba on our ops: the mixer of each layer.

`use_our_mixers` replaces the mixer of each layer of one model instance; nothing of transformers is
changed, and weights keep their names.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ctscribe.ops.causal_conv import causal_conv1d, causal_conv1d_step
from ctscribe.ops.selective_scan import selective_scan, selective_scan_step


def is_mamba(model: nn.Module) -> bool:
    """Whether a transformers model is Mamba-1 or Falcon-Mamba, whose mixers we run ourselves."""
    family = getattr(getattr(model, "config", None), "model_type", None)
    return family in ("mamba", "falcon_mamba")


def use_our_mixers(model: nn.Module) -> int:
    """Replace the mixer of every layer of a model that `is_mamba` in place; returns how many."""
    layers: Any = model.get_submodule("backbone.layers")
    for layer in layers:
        layer.mixer = ScanMixer(layer.mixer)
    return len(layers)


class ScanMixer(nn.Module):
    """The parts of transformers' mixer, computed by our ops: (B, L, W) to (B, L, W).

    Mamba paper section 3.4, figure 3; Falcon-Mamba (Zuo et al. 2024) divides dt, B and C by their
    root mean square. Unlike transformers', a second chunk of a prompt goes on from the state of the
    first.
    """

    in_proj: nn.Module
    conv1d: nn.Conv1d
    x_proj: nn.Module
    dt_proj: nn.Module
    out_proj: nn.Module

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        parts: Any = mixer
        if parts.activation not in ("silu", "swish"):
            raise ValueError(f"hidden_act must be silu, not {parts.activation}")
        for name in ("in_proj", "conv1d", "x_proj", "dt_proj", "out_proj"):
            setattr(self, name, getattr(parts, name))
        self.A_log: nn.Parameter = parts.A_log
        self.D: nn.Parameter = parts.D
        self.layer_idx: int = parts.layer_idx
        self.rank: int = parts.time_step_rank
        self.state_size: int = parts.ssm_state_size
        self.rms_eps: float | None = getattr(parts, "rms_eps", None)  # Falcon-Mamba alone has it
        self.train(mixer.training)

    def forward(
        self,
        hidden_states: Tensor,
        cache: Any = None,
        attention_mask: Tensor | None = None,
        cache_params: Any = None,  # what transformers before 5.20 calls the cache
        **ignored: Any,
    ) -> Tensor:
        """Called by transformers' own block; `attention_mask` (B, L) is 0 at padding."""
        cache = cache if cache is not None else cache_params
        if cache is None:
            return self.scan(hidden_states, attention_mask)[0]
        layer = cache.layers[self.layer_idx]
        conv = scan = None
        if layer.has_previous_state[0]:
            past = self.conv1d.kernel_size[0] - 1
            conv = layer.conv_states[0][..., -past:].transpose(1, 2)
            scan = layer.recurrent_states[0]
        out, _, final = self.scan(hidden_states, attention_mask, conv, scan, cache)
        cache.update_recurrent_state(final, self.layer_idx)
        return out

    def scan(
        self,
        hidden_BLW: Tensor,
        mask_BL: Tensor | None = None,
        conv_state: Tensor | None = None,
        scan_state: Tensor | None = None,
        cache: Any = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Output (B, L, W), conv state (B, K - 1, D) and scan state (B, D, N) after the last step.

        conv_state, scan_state: to go on from. cache: transformers' own, told of the conv's inputs.
        """
        if mask_BL is not None:
            hidden_BLW = hidden_BLW * mask_BL[..., None].to(hidden_BLW.dtype)
        x_BLD, z_BLD = self.in_proj(hidden_BLW).chunk(2, dim=-1)
        u_BLD, conv_state = causal_conv1d(
            x_BLD,
            self.conv1d.weight[:, 0],
            self.conv1d.bias,
            initial_state=conv_state,
            return_final_state=True,
        )
        if cache is not None:  # only now: it overwrites the state that the convolution went on from
            kernel = self.conv1d.kernel_size[0]
            cache.update_conv_state(x_BLD.transpose(1, 2), self.layer_idx, conv_kernel_size=kernel)
        if mask_BL is not None:
            u_BLD = u_BLD * mask_BL[..., None].to(u_BLD.dtype)
        dt, dt_bias, B_BLN, C_BLN = self._select(u_BLD)
        y_BLD, scan_state = selective_scan(
            u_BLD,
            dt,
            self.decay_rates(),
            B_BLN,
            C_BLN,
            D=self.D,
            z=z_BLD,
            dt_bias=dt_bias,
            initial_state=scan_state,
            return_final_state=True,
        )
        return self.out_proj(y_BLD), conv_state, scan_state

    def step(self, hidden_BW: Tensor, conv_state: Tensor, scan_state: Tensor, A: Tensor) -> Tensor:
        """One token: output (B, W); both states are updated in place. A: `decay_rates()`."""
        x_BD, z_BD = self.in_proj(hidden_BW).chunk(2, dim=-1)
        u_BD = causal_conv1d_step(conv_state, x_BD, self.conv1d.weight[:, 0], self.conv1d.bias)
        dt, dt_bias, B_BN, C_BN = self._select(u_BD)
        y_BD = selective_scan_step(
            scan_state, u_BD, dt, A, B_BN, C_BN, D=self.D, z=z_BD, dt_bias=dt_bias
        )
        return self.out_proj(y_BD)  # type: ignore[no-any-return]

    def decay_rates(self) -> Tensor:
        """The decay rates (D, N), negative, fp32."""
        return -torch.exp(self.A_log.float())

    def _select(self, u: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """dt before its bias, the bias, B and C, from the convolution's output."""
        low, B, C = self.x_proj(u).split([self.rank, self.state_size, self.state_size], -1)
        if self.rms_eps is not None:
            low, B, C = (self._normed(part, self.rms_eps) for part in (low, B, C))
        if type(self.dt_proj) is nn.Linear:
            # The bias is added in fp32 inside the scan: bf16 would round small steps away.
            return nn.functional.linear(low, self.dt_proj.weight), self.dt_proj.bias, B, C
        return self.dt_proj(low), None, B, C  # wrapped by LoRA or quantised

    @staticmethod
    def _normed(x: Tensor, eps: float) -> Tensor:
        return nn.functional.rms_norm(x.float(), x.shape[-1:], eps=eps).to(x.dtype)
