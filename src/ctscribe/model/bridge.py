"""The bridge: pooled image features to visual tokens in the language model's embedding space.

Bidirectional Mamba blocks after Vision Mamba (Zhu et al. 2024, arXiv:2401.09417, algorithm 1): one
input projection, a convolution and a selective scan per direction, gated, summed, projected. The
scan is `ops.selective_scan`. Here the sequence is short (a token a slot), so one block mixes all.
Where the pooled rows are not slots (cells of a grid or of RoIs), a query a slot then reads them
(cross-attention, as the resampler of Flamingo, Alayrac et al. 2022, arXiv:2204.14198, section 3.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctscribe.model.pooling import Pooled
from ctscribe.ops.causal_conv import causal_conv1d
from ctscribe.ops.selective_scan import selective_scan

POSITION_SCALE_MM = 100.0
FREQUENCIES = 6
LEAST_SCALE = 1e-3  # of a feature that hardly varies among the training studies
FARTHEST = 6.0  # standard deviations: an image unlike all others must not drown the rest


@dataclass(frozen=True)
class BridgeConfig:
    """Everything that rebuilds a bridge."""

    kind: str = "vim"  # vim, transformer or mlp: the latter two for ablation
    input_width: int = 212  # of the pooled features
    width: int = 192  # of the bridge
    layers: int = 2
    tokens: int = 20  # rows of the pooled features
    local_width: int = 0  # of the RoIs' features, where there are both streams
    local_tokens: int = 0
    slots: int = 0  # rows that queries read off the others, and that stand before them
    state: int = 16  # N of the scan
    llm_width: int = 256
    dropout: float = 0.1


class Bridge(nn.Module):
    """`Pooled` to visual tokens (B, L, llm_width), and the hidden states (B, L, width) before.

    The first rows are the slots of `reports.language.SLOTS`, whatever was pooled.
    """

    input_mean: Tensor
    input_scale: Tensor

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        # Each row has its own units (a lobe's volume, an effusion's depth): see `fit_input`.
        shape = (config.tokens, config.input_width)
        self.register_buffer("input_mean", torch.zeros(shape))
        self.register_buffer("input_scale", torch.ones(shape))
        self.project_in = nn.Linear(config.input_width, width)
        self.row = nn.Parameter(torch.randn(config.tokens, width) * 0.02)
        self.local: LocalInput | None = LocalInput(config) if config.local_tokens else None
        self.position = nn.Linear(6 * FREQUENCIES, width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.layers))
        self.norm_out = nn.RMSNorm(width)
        self.slots = SlotQueries(config.slots, width) if config.slots else None
        self.project_out = nn.Linear(width, config.llm_width)
        # Tokens leave at the scale of the language model's own embeddings (set by `fit_scale`).
        self.norm_llm = nn.RMSNorm(config.llm_width)

    def fit_input(self, pooled: Pooled) -> None:
        """Standardise inputs as in the training studies `pooled`, row by row."""
        _fit(self, pooled.features)
        if self.local is not None:
            assert pooled.local is not None
            _fit(self.local, pooled.local.features)

    def fit_scale(self, embedding_rms: float) -> None:
        """Start visual tokens at this root mean square, the one of what the LLM reads."""
        nn.init.constant_(self.norm_llm.weight, embedding_rms)

    def forward(self, pooled: Pooled) -> tuple[Tensor, Tensor]:
        """Visual tokens and the hidden states before them."""
        x_BLD = _read(self, pooled.features)
        position = pooled.position_mm
        if self.local is not None:
            assert pooled.local is not None
            x_BLD = torch.cat([x_BLD, _read(self.local, pooled.local.features)], 1)
            position = torch.cat([position, pooled.local.position_mm], 1)
        x_BLD = self.dropout(x_BLD + self.position(_waves(position)))
        for block in self.blocks:
            x_BLD = x_BLD + self.dropout(block(x_BLD))
        hidden_BLD = self.norm_out(x_BLD)
        if self.slots is not None:
            hidden_BLD = torch.cat([self.slots(hidden_BLD), hidden_BLD], 1)
        return self.norm_llm(self.project_out(hidden_BLD)), hidden_BLD


class SlotQueries(nn.Module):
    """One row a slot, from rows that are none: each slot's query attends over all of them."""

    def __init__(self, slots: int, width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(slots, width) * width**-0.5)
        self.row = nn.Parameter(torch.randn(slots, width) * 0.02)
        self.norm = nn.RMSNorm(width)

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """(B, L, D) to (B, slots, D)."""
        attention_BSL = (self.queries @ hidden_BLD.transpose(1, 2)).softmax(-1)
        return self.norm(attention_BSL @ hidden_BLD + self.row)  # type: ignore[no-any-return]


class LocalInput(nn.Module):
    """How the local stream's rows enter: their own units, projection and row embeddings."""

    input_mean: Tensor
    input_scale: Tensor

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        # Cells of any RoI have the same units.
        shape = (1, config.local_width)
        self.register_buffer("input_mean", torch.zeros(shape))
        self.register_buffer("input_scale", torch.ones(shape))
        self.project_in = nn.Linear(config.local_width, config.width)
        self.row = nn.Parameter(torch.randn(config.local_tokens, config.width) * 0.02)


def _fit(into: Bridge | LocalInput, features_nLD: Tensor) -> None:
    rows = into.input_mean.shape[0]
    n, length, width = features_nLD.shape
    flat = features_nLD if rows == length else features_nLD.reshape(n * length, 1, width)
    into.input_mean.copy_(flat.mean(0))
    into.input_scale.copy_(flat.std(0).clamp_min(LEAST_SCALE))


def _read(into: Bridge | LocalInput, features_BLD: Tensor) -> Tensor:
    standard = (features_BLD - into.input_mean) / into.input_scale
    x_BLD: Tensor = into.project_in(standard.clamp(-FARTHEST, FARTHEST)) + into.row
    return x_BLD


class VimBlock(nn.Module):
    """One bidirectional Mamba block: (B, L, D) to (B, L, D)."""

    def __init__(self, width: int, state: int, expand: int = 2, kernel: int = 4) -> None:
        super().__init__()
        inner = expand * width
        self.norm = nn.RMSNorm(width)
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.directions = nn.ModuleList(Direction(inner, state, kernel) for _ in range(2))
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """The block's addition to its input."""
        x_BLE, z_BLE = self.in_proj(self.norm(x_BLD)).chunk(2, dim=-1)
        ahead, back = self.directions
        y_BLE = ahead(x_BLE, z_BLE) + back(x_BLE, z_BLE, reverse=True)
        return self.out_proj(y_BLE) / 2  # type: ignore[no-any-return]


class Direction(nn.Module):
    """Convolution and selective scan of one direction, gated by z: (B, L, E) to (B, L, E)."""

    def __init__(self, inner: int, state: int, kernel: int) -> None:
        super().__init__()
        self.rank, self.state = math.ceil(inner / 32), state
        self.conv_weight = nn.Parameter(torch.randn(inner, kernel) / math.sqrt(kernel))
        self.conv_bias = nn.Parameter(torch.zeros(inner))
        self.x_proj = nn.Linear(inner, self.rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner, bias=False)
        # Step sizes start log-uniform in 0.001 .. 0.1, through the inverse of softplus (Mamba).
        dt = torch.exp(torch.rand(inner) * math.log(100) + math.log(0.001))
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.A_log = nn.Parameter(torch.arange(1, state + 1).float().log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))

    def forward(
        self,
        x_BLE: Tensor,
        z_BLE: Tensor,
        *,
        reverse: bool = False,
        film: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """film: scale and shift (B, E) of what dt, B and C are made from; the scan sees neither."""
        u_BLE = causal_conv1d(x_BLE, self.conv_weight, self.conv_bias, reverse=reverse)
        select = self.x_proj(u_BLE) if film is None else self._select(u_BLE, *film)
        dt, B_BLN, C_BLN = select.split([self.rank, self.state, self.state], -1)
        A_EN = -self.A_log.float().exp()
        return selective_scan(
            u_BLE,
            self.dt_proj(dt),
            A_EN,
            B_BLN,
            C_BLN,
            D=self.D,
            z=z_BLE,
            dt_bias=self.dt_bias,
            reverse=reverse,
        )

    def _select(self, u_BLE: Tensor, scale_BE: Tensor, shift_BE: Tensor) -> Tensor:
        """`x_proj(scale * u + shift)`, the scale in the weights: no second copy of u is kept."""
        weight_BRE = self.x_proj.weight * scale_BE[:, None]
        return torch.baddbmm(self.x_proj(shift_BE)[:, None], u_BLE, weight_BRE.transpose(1, 2))


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP, for ablation: (B, L, D) to (B, L, D), without the residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        heads = max(1, width // 48)
        self.layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        """The layer's addition to its input."""
        return self.layer(x_BLD) - x_BLD  # type: ignore[no-any-return]


def _block(config: BridgeConfig) -> nn.Module:
    if config.kind == "vim":
        return VimBlock(config.width, config.state)
    if config.kind == "transformer":
        return TransformerBlock(config.width)
    return nn.Sequential(
        nn.RMSNorm(config.width),
        nn.Linear(config.width, 4 * config.width),
        nn.GELU(),
        nn.Linear(4 * config.width, config.width),
    )


def _waves(position_mm: Tensor) -> Tensor:
    """Sines and cosines of millimetres: (B, L, 3) to (B, L, 6 * FREQUENCIES)."""
    octaves = 2.0 ** torch.arange(FREQUENCIES, device=position_mm.device)
    angles = (position_mm / POSITION_SCALE_MM)[..., None] * octaves
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)
