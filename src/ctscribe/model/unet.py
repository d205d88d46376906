"""The two networks of nnU-Net v2, written so that its weights load under their own names.

PlainConvUNet and ResidualEncoderUNet of the package dynamic-network-architectures 0.4 (Isensee et
al. 2021; 2024 for the residual one), for the arguments that plans hold. The package itself needs
timm and torchvision, which must match PyTorch's build and break transformers where they do not.
Tests hold every stage to the package's own networks, with weights that nnU-Net trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class UNetPlan:
    """What plans say of a network, each axis and stage spelled out.

    blocks: of each stage, convolutions or (residual) pairs of them. norm, act, drop: make a layer,
    norm for a number of channels; None leaves it out.
    """

    dims: int
    residual: bool
    features: Sizes
    kernels: tuple[Sizes, ...]
    strides: tuple[Sizes, ...]
    blocks: Sizes
    decoder_blocks: Sizes
    bias: bool
    norm: Any
    act: Any
    drop: Any
    act_first: bool = False  # convolution, activation, norm
    stem: int | None = None  # channels of the residual network's stem; None is the first stage's

    @property
    def conv(self) -> type[nn.Module]:
        """The convolution."""
        return nn.Conv3d if self.dims == 3 else nn.Conv2d


class UNet(nn.Module):
    """Image (B, 1, *space) to logits (B, classes, *space)."""

    def __init__(self, plan: UNetPlan, classes: int) -> None:
        super().__init__()
        self.encoder = UNetEncoder(plan)
        self.decoder = UNetDecoder(plan, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits at the image's resolution."""
        return cast(Tensor, self.decoder(self.encoder(image)))


class UNetEncoder(nn.Module):
    """Image to the features of each stage, the finest first."""

    def __init__(self, plan: UNetPlan) -> None:
        super().__init__()
        before = 1
        if plan.residual:
            before = plan.stem or plan.features[0]
            self.stem = _Convs(plan, 1, 1, before, plan.kernels[0], (1,) * plan.dims)
        stages: list[nn.Module] = []
        for width, kernel, stride, blocks in zip(
            plan.features, plan.kernels, plan.strides, plan.blocks, strict=True
        ):
            if plan.residual:
                stages.append(_Residuals(plan, blocks, before, width, kernel, stride))
            else:
                stages.append(nn.Sequential(_Convs(plan, blocks, before, width, kernel, stride)))
            before = width
        self.stages = nn.Sequential(*stages)

    def forward(self, image: Tensor, deepest: int | None = None) -> list[Tensor]:
        """Features of the stages up to `deepest`, all if left out."""
        x = self.stem(image) if hasattr(self, "stem") else image
        found = []
        for stage in list(self.stages)[: None if deepest is None else deepest + 1]:
            x = stage(x)
            found.append(x)
        return found


class UNetDecoder(nn.Module):
    """Features of each stage to logits at the finest."""

    def __init__(self, plan: UNetPlan, classes: int) -> None:
        super().__init__()
        self.stages, self.transpconvs = nn.ModuleList(), nn.ModuleList()
        self.seg_layers = nn.ModuleList()  # all but the last are for deep supervision
        up: Any = nn.ConvTranspose3d if plan.dims == 3 else nn.ConvTranspose2d
        conv: Any = plan.conv
        deepest = len(plan.features) - 1
        for i in range(deepest):
            below, own = plan.features[deepest - i], plan.features[deepest - i - 1]
            stride = plan.strides[deepest - i]
            self.transpconvs.append(up(below, own, stride, stride, bias=plan.bias))
            kernel = plan.kernels[deepest - i - 1]
            ones = (1,) * plan.dims
            self.stages.append(_Convs(plan, plan.decoder_blocks[i], 2 * own, own, kernel, ones))
            self.seg_layers.append(conv(own, classes, 1))

    def forward(self, skips: Sequence[Tensor]) -> Tensor:
        """Logits from the encoder's features, the finest first."""
        x = skips[-1]
        above = list(reversed(skips[:-1]))
        for skip, up, stage in zip(above, self.transpconvs, self.stages, strict=True):
            x = stage(torch.cat((up(x), skip), 1))
        return cast(Tensor, self.seg_layers[-1](x))


class _Conv(nn.Module):
    """Convolution, dropout, norm, activation."""

    def __init__(
        self,
        plan: UNetPlan,
        before: int,
        width: int,
        kernel: Sizes,
        stride: Sizes,
        *,
        bias: bool | None = None,
        plain: bool = False,  # neither dropout nor activation
    ) -> None:
        super().__init__()
        conv: Any = plan.conv
        padding = tuple((k - 1) // 2 for k in kernel)
        own_bias = plan.bias if bias is None else bias
        self.conv = conv(before, width, kernel, stride, padding, bias=own_bias)
        drop = nn.Identity() if plan.drop is None or plain else plan.drop()
        self.norm = nn.Identity() if plan.norm is None else plan.norm(width)
        act = nn.Identity() if plan.act is None or plain else plan.act()
        # Not parts of their own: they have no weights, and a second name for the norm is none.
        order = [drop, act, self.norm] if plan.act_first else [drop, self.norm, act]
        object.__setattr__(self, "after", order)

    after: list[nn.Module]

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for layer in self.after:
            x = layer(x)
        return x


class _Convs(nn.Module):
    """Convolutions one after another, the first with the stride."""

    def __init__(
        self, plan: UNetPlan, n: int, before: int, width: int, kernel: Sizes, stride: Sizes
    ) -> None:
        super().__init__()
        ones = (1,) * plan.dims
        self.convs = nn.Sequential(
            *(
                _Conv(plan, width if i else before, width, kernel, ones if i else stride)
                for i in range(n)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.convs(x))


class _Residuals(nn.Module):
    """Residual blocks one after another, the first with the stride."""

    def __init__(
        self, plan: UNetPlan, n: int, before: int, width: int, kernel: Sizes, stride: Sizes
    ) -> None:
        super().__init__()
        ones = (1,) * plan.dims
        self.blocks = nn.Sequential(
            *(
                _Residual(plan, width if i else before, width, kernel, ones if i else stride)
                for i in range(n)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.blocks(x))


class _Residual(nn.Module):
    """Two convolutions beside a skip that averages and projects where it must (ResNet-D)."""

    def __init__(
        self, plan: UNetPlan, before: int, width: int, kernel: Sizes, stride: Sizes
    ) -> None:
        super().__init__()
        ones = (1,) * plan.dims
        self.conv1 = _Conv(plan, before, width, kernel, stride)
        self.conv2 = _Conv(plan, width, width, kernel, ones, plain=True)
        pool: Any = nn.AvgPool3d if plan.dims == 3 else nn.AvgPool2d
        shortcut: list[nn.Module] = []
        if stride != ones:
            shortcut.append(pool(stride, stride))
        if before != width:
            shortcut.append(_Conv(plan, before, width, ones, ones, bias=False, plain=True))
        self.skip = nn.Sequential(*shortcut)
        self.act = nn.Identity() if plan.act is None else plan.act()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.act(self.conv2(self.conv1(x)) + self.skip(x)))
