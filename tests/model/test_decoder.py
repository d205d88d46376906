"""Decoding by the kernels against the layers themselves.

On a CPU the kernels' own specs stand in for them, so that what drives them is tested everywhere.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn.functional import linear

from ctscribe.model import decoder as decoders
from ctscribe.model.decoder import MambaDecoder, MambaState
from ctscribe.model.mamba import use_our_mixers
from ctscribe.ops import causal_conv, cuda, decode_cuda, selective_scan
from ctscribe.ops.rms_norm import norm_forward

gpu = pytest.mark.skipif(not cuda.available(), reason=f"no kernel can run: {cuda.why_not()}")
WORDS = 203
KERNELS = ("step_in", "step_x", "step_scan", "step_out", "step_head", "step_conv")
OWN, LIBRARY = (
    {"step_in", "step_x", "step_scan", "step_out", "step_head"},
    {
        "step_conv",
        "step_scan",
    },
)


@cache
def model(
    width: int = 64, rank: int = 8, states: int = 16, taps: int = 4, conv_bias: bool = True
) -> Any:
    """Frozen, fp32, with our mixers and with numbers that bf16 holds."""
    torch.manual_seed(0)
    config: Any = transformers.MambaConfig(
        vocab_size=WORDS,
        hidden_size=width,
        num_hidden_layers=3,
        state_size=states,
        time_step_rank=rank,
        conv_kernel=taps,
        use_conv_bias=conv_bias,
    )
    made: Any = transformers.MambaForCausalLM(config)
    use_our_mixers(made)
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
        parameter.data = parameter.data.bfloat16().float()
    return made.eval().requires_grad_(False)


def prompts(batch: int, length: int, width: int) -> tuple[Tensor, Tensor]:
    """Left padded, each otherwise; numbers that bf16 holds."""
    g = torch.Generator().manual_seed(batch)
    embeds = torch.randn(batch, length, width, generator=g).bfloat16().float()
    mask = torch.ones(batch, length, dtype=torch.long)
    for b in range(1, batch):
        mask[b, : min(length - 1, 2 * b)] = 0
    return embeds, mask


def write(made: Any, embeds: Tensor, mask: Tensor, start: int) -> list[Tensor]:
    """Logits from `start` on, one token after the other, and the states at the end."""
    decoder = MambaDecoder(made)
    logits, state = decoder.prefill(embeds[:, :start], mask[:, :start])
    found = [logits]
    for t in range(start, embeds.shape[1]):
        found.append(decoder.step(embeds[:, t], state))
    assert all(x.dtype == torch.float32 for x in (*found, *state.scan))
    assert all(x.dtype == embeds.dtype for x in state.conv)
    return [torch.stack(found, 1), torch.stack(state.conv), torch.stack(state.scan)]


def away(got: Tensor, wanted: Tensor) -> float:
    return float((got.double().cpu() - wanted.double()).norm() / wanted.double().norm())


# What the kernels compute.


def normed(
    residual: Tensor, weight: Tensor, eps: float, dtype: torch.dtype, rounds: bool
) -> Tensor:
    options: Any = {"rounds": rounds, "keep": False, "backend": "torch"}
    return norm_forward(residual.clone(), None, weight, eps, dtype, **options)[0]


class Spec:
    """The functions of `decode_cuda` in plain PyTorch."""

    @staticmethod
    def step_in(
        residual: Tensor, norm: Tensor, eps: float, matrix: Tensor, conv: Tensor,
        conv_bias: Tensor | None, conv_state: Tensor, u: Tensor, z: Tensor,
    ) -> None:  # fmt: skip
        x, gate = linear(normed(residual, norm, eps, u.dtype, True), matrix).chunk(2, -1)
        z.copy_(gate)
        u.copy_(causal_conv.plain_step(conv_state, x, conv, conv_bias, True))

    @staticmethod
    def step_x(u: Tensor, matrix: Tensor, out: Tensor) -> None:
        out.copy_(linear(u, matrix))

    @staticmethod
    def step_scan(
        u: Tensor, B: Tensor, C: Tensor, dt: Tensor, dt_bias: Tensor, A: Tensor, D: Tensor,
        z: Tensor, state: Tensor, y: Tensor, *, low: Tensor | None = None, softplus: bool = True,
    ) -> None:  # fmt: skip
        step = dt if low is None else linear(low, dt)
        y.copy_(selective_scan.plain_step(state, u, step, A, B, C, D, z, dt_bias, softplus))

    @staticmethod
    def step_out(y: Tensor, matrix: Tensor, residual: Tensor) -> None:
        residual += linear(y, matrix)

    @staticmethod
    def step_head(
        residual: Tensor, norm: Tensor, eps: float, matrix: Tensor, logits: Tensor
    ) -> None:
        logits.copy_(linear(normed(residual, norm, eps, matrix.dtype, False), matrix))

    @staticmethod
    def step_conv(
        x: Tensor, conv: Tensor, conv_bias: Tensor | None, conv_state: Tensor, u: Tensor,
        *, silu: bool = True,
    ) -> None:  # fmt: skip
        u.copy_(causal_conv.plain_step(conv_state, x, conv, conv_bias, silu))


@pytest.fixture
def ran() -> Iterator[set[str]]:
    """The names of the kernels that ran."""
    names: set[str] = set()

    def counted(name: str) -> Any:
        real = getattr(decode_cuda, name)

        def call(*args: Any, **options: Any) -> None:
            names.add(name)
            real(*args, **options)

        return call

    # Of its own: what another fixture patched before is put back after this, not the other way.
    with pytest.MonkeyPatch.context() as patch:
        for name in KERNELS:
            patch.setattr(decode_cuda, name, counted(name))
        yield names


@pytest.fixture
def stand_in() -> Iterator[None]:
    """Treats the CPU as a device with kernels."""

    def norm(*args: Any, backend: str, **options: Any) -> Any:
        assert backend == "cuda"
        return norm_forward(*args, backend="torch", **options)

    def contiguous(function: Any) -> Any:
        def call(*args: Any, **options: Any) -> None:
            # A part of a row may be given (x, z): then numbers of a row lie side by side.
            every = [a for a in (*args, *options.values()) if isinstance(a, Tensor)]
            assert all(a.stride(-1) == 1 for a in every)
            function(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in KERNELS:
            patch.setattr(decode_cuda, name, contiguous(getattr(Spec, name)))
        patch.setattr(decoders, "norm_forward", norm)
        patch.setattr(decoders, "backend_of", lambda *_: "cuda")
        yield


# Width, rank, N, filter, its bias; whether the kernels do the products in bf16, and in fp32.
MODELS = [
    ((64, 8, 16, 4, True), True, True),
    ((64, 8, 8, 4, True), True, True),
    ((64, 16, 32, 3, False), True, True),
    ((96, 8, 16, 2, True), True, True),
    ((64, 4, 16, 4, True), False, True),  # R is 8 bytes in bf16
    ((36, 8, 16, 4, True), False, True),  # W is 72 bytes
    ((42, 8, 8, 4, False), False, False),
    ((64, 3, 16, 4, True), False, False),
    ((37, 3, 32, 3, True), False, False),
]


def expected(batch: int, dtype: torch.dtype, narrow: bool, wide: bool) -> set[str]:
    own = batch <= decode_cuda.MOST and (wide if dtype == torch.float32 else narrow)
    return OWN if own else LIBRARY


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("batch", [1, 3, 4, 5])
@pytest.mark.parametrize(("kind", "narrow", "wide"), MODELS)
def test_steps_by_the_specs_are_steps_of_the_layers(
    request: pytest.FixtureRequest,
    kind: tuple[Any, ...],
    narrow: bool,
    wide: bool,
    batch: int,
    dtype: torch.dtype,
) -> None:
    made = copy.deepcopy(model(*kind)).to(dtype)
    embeds, mask = prompts(batch, 9, kind[0])
    wanted = write(made, embeds.to(dtype), mask, 5)
    request.getfixturevalue("stand_in")
    names = request.getfixturevalue("ran")
    got = write(made, embeds.to(dtype), mask, 5)
    assert names == expected(batch, dtype, narrow, wide)
    for one, two in zip(got, wanted, strict=True):
        assert away(one, two) < 1e-5 if dtype == torch.float32 else away(one, two) < 0.01


@pytest.mark.parametrize("batch", [1, 6])
def test_the_residual_is_the_kernels_own(stand_in: None, batch: int) -> None:
    """What was given stays as it was, in any layout."""
    decoder = MambaDecoder(model())
    embeds, mask = prompts(batch, 5, 64)
    _, state = decoder.prefill(embeds, mask)
    other = copy.deepcopy(state)
    one = embeds[:, 0].clone()
    logits = decoder.step(one, state)
    assert torch.equal(one, embeds[:, 0])
    assert torch.equal(decoder.step(one.t().contiguous().t(), other), logits)


@pytest.mark.parametrize("cut", [1, 2, 3, 8, 12])
@pytest.mark.parametrize("kind", ["frozen", "learning"])
def test_a_prompt_goes_on_from_a_state_which_stays_as_it_was(cut: int, kind: str) -> None:
    made = model()
    if kind == "learning":
        made = copy.deepcopy(made)
        made.backbone.norm_f.weight.requires_grad_()
    decoder = MambaDecoder(made)
    assert (decoder._frozen is None) == (kind == "learning")
    embeds, mask = prompts(3, 13, 64)
    whole, end = decoder.prefill(embeds, mask)
    _, state = decoder.prefill(embeds[:, :cut], mask[:, :cut])
    before = copy.deepcopy(state)
    for _ in range(2):
        logits, after = decoder.prefill(embeds[:, cut:], mask[:, cut:], state)
        torch.testing.assert_close(logits, whole, rtol=1e-4, atol=1e-4)
        for name in ("conv", "scan"):
            for a, b in zip(getattr(after, name), getattr(end, name), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
            for a, b in zip(getattr(state, name), getattr(before, name), strict=True):
                assert torch.equal(a, b)


def test_layers_and_the_frozen_function_read_a_prompt_alike() -> None:
    learning = copy.deepcopy(model())
    learning.backbone.norm_f.weight.requires_grad_()
    one, two = MambaDecoder(model()), MambaDecoder(learning)
    for length in (1, 2, 3, 20):
        args = prompts(3, length, 64)
        (a, left), (b, right) = one.prefill(*args), two.prefill(*args)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        for x, y in zip(left.conv + left.scan, right.conv + right.scan, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
            assert x.is_contiguous()


def test_products_that_do_not_fit_are_the_librarys() -> None:
    takes = decode_cuda.takes_products
    narrow = torch.zeros(8, 5120, dtype=torch.bfloat16)
    assert takes(4, narrow, 1)
    assert takes(4, narrow, 2)
    assert not takes(5, narrow, 1)
    assert not takes(1, torch.zeros(8, 12, dtype=torch.bfloat16), 1)
    assert takes(1, torch.zeros(8, 12), 1)
    assert not takes(1, torch.zeros(8, 17, dtype=torch.bfloat16)[:, 1:], 1)  # its address is odd
    assert not takes(4, torch.zeros(8, 5120), 1)  # more than a block's shared memory
    assert not takes(1, torch.zeros(8, 8192, dtype=torch.bfloat16), 2)  # than a warp's registers


# On a GPU.


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize(("kind", "narrow", "wide"), MODELS)
def test_steps_by_kernels_are_steps_on_a_cpu(
    ran: set[str],
    kind: tuple[Any, ...],
    narrow: bool,
    wide: bool,
    batch: int,
    dtype: torch.dtype,
) -> None:
    made = model(*kind)
    embeds, mask = prompts(batch, 14, kind[0])
    exact = write(made, embeds, mask, 8)
    assert not ran
    low = copy.deepcopy(made).to(dtype)
    plain = write(low, embeds.to(dtype), mask, 8)
    got = write(low.cuda(), embeds.to("cuda", dtype), mask.cuda(), 8)
    assert ran == expected(batch, dtype, narrow, wide)
    for mine, cpus, wanted in zip(got, plain, exact, strict=True):
        if dtype == torch.float32:
            assert away(mine, wanted) < 2e-5
        else:  # as near fp32 as a CPU in the same precision
            assert away(mine, wanted) < 1.5 * away(cpus, wanted) + 1e-4


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("kind", [(64, 8, 16, 4, True), (64, 16, 32, 3, False)])
def test_kernels_that_follow_at_once_read_what_was_just_written(
    kind: tuple[Any, ...], batch: int, dtype: torch.dtype
) -> None:
    # The GPU is busy while all are launched: each then starts before the one before has ended.
    made = model(*kind).to("cuda", dtype)
    embeds, mask = prompts(batch, 14, kind[0])
    embeds, mask = embeds.to("cuda", dtype), mask.cuda()
    one_by_one = write(made, embeds, mask, 8)
    for _ in range(5):
        torch.cuda.synchronize()
        torch.cuda._sleep(60_000_000)  # type: ignore[no-untyped-call]
        for got, wanted in zip(write(made, embeds, mask, 8), one_by_one, strict=True):
            assert torch.equal(got, wanted)


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize(
    ("width", "inner", "rank", "states", "taps"),
    [(64, 128, 8, 16, 4), (72, 136, 8, 8, 3), (8, 24, 16, 32, 2), (2560, 5120, 160, 16, 4)],
)
def test_each_kernel_is_its_spec(
    dtype: torch.dtype, batch: int, width: int, inner: int, rank: int, states: int, taps: int
) -> None:
    if not decode_cuda.takes_products(batch, torch.empty(1, inner, dtype=dtype), 1):
        pytest.skip("the library does these products")
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int, scale: float = 1.0, of: torch.dtype = torch.float32) -> Tensor:
        return (scale * torch.randn(*shape, generator=g)).to("cuda", of)

    def unwritten(*shape: int, of: torch.dtype = dtype) -> Tensor:
        return torch.full(shape, float("nan"), device="cuda", dtype=of)

    near = {torch.float32: 2e-5, torch.bfloat16: 5e-3, torch.float16: 1e-3}[dtype]

    def alike(name: str, *args: Any, **options: Any) -> None:
        """Runs the kernel on `args`, and its spec on copies of them."""
        copies = copy.deepcopy(args)
        getattr(Spec, name)(*copies, **options)
        getattr(decode_cuda, name)(*args, **options)
        for at, (one, two) in enumerate(zip(args, copies, strict=True)):
            if isinstance(one, Tensor):
                assert away(one, two.cpu()) <= near, f"{name}: argument {at}"

    residual, norm = normal(batch, width), normal(width)
    in_proj = normal(2 * inner, width, scale=width**-0.5, of=dtype)
    x_proj = normal(rank + 2 * states, inner, scale=inner**-0.5, of=dtype)
    dt_proj = normal(inner, rank, scale=rank**-0.5, of=dtype)
    out_proj, head = normal(width, inner, scale=inner**-0.5, of=dtype), normal(501, width, of=dtype)
    conv, bias, D = normal(inner, taps), normal(inner), normal(inner)
    last = bias, -normal(inner, states).exp(), D
    conv_state, state = normal(batch, taps - 1, inner, of=dtype), normal(batch, inner, states)
    u, z, y = (unwritten(batch, inner) for _ in range(3))
    low_bc = unwritten(batch, rank + 2 * states)
    alike("step_in", residual, norm, 1e-5, in_proj, conv, bias, conv_state, u, z)
    alike("step_x", u, x_proj, low_bc)
    low, B, C = low_bc.split([rank, states, states], -1)
    alike("step_scan", u, B, C, dt_proj, *last, z, state, y, low=low)
    alike("step_out", y, out_proj, residual)
    alike("step_head", residual, norm, 1e-5, head, unwritten(batch, 501, of=torch.float32))
    x = normal(batch, 2 * inner, of=dtype)
    alike("step_conv", x[:, :inner], conv, None, conv_state, u)
    step = normal(batch, inner, of=dtype)
    alike("step_scan", u, B, C, step, *last, x[:, inner:], state, y)


def falcon() -> Any:
    """What no frozen function takes: dt, B and C are normed."""
    torch.manual_seed(0)
    config: Any = transformers.FalconMambaConfig(
        vocab_size=WORDS, hidden_size=64, num_hidden_layers=3, time_step_rank=8
    )
    made: Any = transformers.FalconMambaForCausalLM(config)
    use_our_mixers(made)
    return made.eval().requires_grad_(False)


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("batch", [1, 5])
def test_steps_of_layers_by_kernels_are_steps_on_a_cpu(
    ran: set[str], batch: int, dtype: torch.dtype
) -> None:
    made = falcon()
    embeds, mask = prompts(batch, 14, 64)
    exact = write(made, embeds, mask, 8)
    assert not ran
    low = made.to(dtype)
    plain = write(low, embeds.to(dtype), mask, 8)
    got = write(low.cuda(), embeds.to("cuda", dtype), mask.cuda(), 8)
    assert ran == LIBRARY
    for mine, cpus, wanted in zip(got, plain, exact, strict=True):
        if dtype == torch.float32:
            assert away(mine, wanted) < 2e-5
        else:
            assert away(mine, wanted) < 1.5 * away(cpus, wanted) + 1e-4


@gpu
@pytest.mark.parametrize("layers", [False, True])
@pytest.mark.parametrize("batch", [2, 6])
def test_steps_are_the_same_from_run_to_run_and_in_a_graph(batch: int, layers: bool) -> None:
    made = copy.deepcopy(falcon() if layers else model()).to("cuda", torch.bfloat16)
    decoder = MambaDecoder(made)
    assert (decoder._frozen is None) == layers
    embeds, mask = prompts(batch, 9, 64)
    embeds, mask = embeds.cuda().bfloat16(), mask.cuda()
    _, state = decoder.prefill(embeds[:, :8], mask[:, :8])
    runs = []
    for _ in range(2):
        own = copy.deepcopy(state)
        runs.append([decoder.step(embeds[:, 8], own) for _ in range(5)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    own = MambaState([t.clone() for t in state.conv], [t.clone() for t in state.scan])
    graph, token = torch.cuda.CUDAGraph(), embeds[:, 8].clone()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        logits = decoder.step(token, own)
    for wanted in runs[0]:
        graph.replay()
        assert torch.equal(logits, wanted)
