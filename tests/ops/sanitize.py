"""Every variant of the kernels once, over small shapes: what to run under compute-sanitizer.

    export PYTORCH_NO_CUDA_MEMORY_CACHING=1
    compute-sanitizer --tool memcheck --report-api-errors no python tests/ops/sanitize.py
    compute-sanitizer --tool racecheck --report-api-errors no python tests/ops/sanitize.py

Run it once without, so that the kernels are compiled. Without PyTorch's memory cache each tensor is
an allocation of its own, and the sanitizer sees what is read past its end. `--error-exitcode 1`
makes its findings the exit code; this file's own is 1 for a result that is not finite. Names of
parts after it (see PARTS) run those alone: several at a time take less long. API errors are left
out because cuda-bindings asks for functions that an older driver does not have.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from itertools import chain, product
from pathlib import Path

os.environ.setdefault("PYTORCH_NO_CUDA_MEMORY_CACHING", "1")
sys.path[:0] = [str(Path(__file__).parents[2])]

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from ctscribe.ops import backend, cuda, scan_cuda  # noqa: E402
from ctscribe.ops import decode_cuda as decode  # noqa: E402
from ctscribe.ops.causal_conv import causal_conv1d  # noqa: E402
from ctscribe.ops.cross_entropy import cross_entropy_  # noqa: E402
from ctscribe.ops.rms_norm import norm_backward, norm_forward  # noqa: E402
from tests.ops.cases import FLOATS, NAMES, OPTIONAL, laid_out, pieces, scan, scan_inputs  # noqa: E402

GPU = torch.device("cuda", 0)
FEW = ("u", "dt")  # no gradient of a parameter: kernels of their own


def scans(dtype: torch.dtype) -> Iterator[tuple[str, list[Tensor]]]:
    """What a scan gives for each N, tiling and alignment, with everything and with little.

    Backwards for one N: only where a row lies differs.
    """
    every = product((8, 16, 32, 64), (True, False), (True, False), (True, False), (False,))
    backwards = product((16,), (True, False), (True, False), (True,), (True,))
    for n, small, aligned, full, reverse in chain(every, backwards):
        # Four tiles and a part of one, two blocks and a part; or less than one of each.
        length, width = (71, 80) if full else (3, 16)
        layouts = {} if aligned else {name: "offset" for name in NAMES}
        values = scan_inputs(
            2,
            length,
            width if aligned else width - 11,
            n,
            dtype=dtype,
            left_out=() if full else OPTIONAL,
            layouts=layouts,
            device=GPU,
        )
        gy = torch.randn_like(values["u"])
        gstate = torch.randn_like(values["initial_state"]) if full else None
        with pieces(small):
            outputs, grads = scan(values, NAMES if full else FEW, gy, gstate, reverse=reverse)
        name = f"scan {dtype} N {n} small {small} aligned {aligned} full {full} reverse {reverse}"
        yield name, [*outputs.values(), *grads.values()]


def convolutions() -> Iterator[tuple[str, list[Tensor]]]:
    """What a convolution gives in each dtype, filter width and alignment."""
    every = product(FLOATS, (2, 3, 4), (True, False), (True, False), (False,))
    backwards = product(FLOATS, (4,), (True, False), (True,), (True,))
    for dtype, taps, aligned, full, reverse in chain(every, backwards):
        length, width = (37, 300 if aligned else 299) if full else (1, 8 if aligned else 5)
        x = torch.randn(2, length, width).to(dtype)
        leaves = [laid_out(x, "contiguous" if aligned else "offset", GPU)]
        leaves += [torch.randn(width, taps, device=GPU)]
        if full:
            leaves += [torch.randn(width, device=GPU)]
            leaves += [torch.randn(2, taps - 1, width, device=GPU).to(dtype)]
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]
        bias, initial = leaves[2:] or (None, None)
        mask = torch.rand(2, length, device=GPU) < 0.7 if full else None
        activation = "silu" if full else None
        y = causal_conv1d(*leaves[:2], bias, activation, initial, mask=mask, reverse=reverse)
        grads = torch.autograd.grad(y.float().square().sum(), leaves)
        name = f"conv {dtype} K {taps} aligned {aligned} full {full} reverse {reverse}"
        yield name, [y.detach(), *grads]


def norms() -> Iterator[tuple[str, list[Tensor]]]:
    """Both directions in each dtype: rows of whole vectors and not, of one round and several."""
    for dtype, width, rounds, full in product(
        FLOATS, (1, 77, 80, 1024, 1027, 2560), (True, False), (True, False)
    ):
        residual, weight = torch.randn(3, width, device=GPU), torch.randn(width, device=GPU)
        delta = torch.randn(3, width, device=GPU).to(dtype) if full else None
        out, hat, inv = norm_forward(
            residual, delta, weight, 1e-5, dtype, rounds=rounds, keep=full, backend="cuda"
        )
        results = [residual, out]
        if hat is not None and inv is not None:
            g_residual = torch.randn_like(residual)
            g = torch.randn_like(out)
            g_delta = norm_backward(g, hat, inv, weight, g_residual, backend="cuda")
            results += [hat, inv, g_residual, g_delta]
        yield f"norm {dtype} W {width} rounds {rounds} full {full}", results


def decoding() -> Iterator[tuple[str, list[Tensor]]]:
    """One token through a block in each dtype, N and number of sequences."""
    for dtype, states, batch, small in product(FLOATS, (8, 16, 32, 64), (1, 4), (True, False)):
        # Rows of the matrices fill no block, or several and a part.
        width, inner, rank, taps = (8, 24, 8, 2) if small else (264, 328, 40, 4)

        def normal(*shape: int, of: torch.dtype = torch.float32) -> Tensor:
            return torch.randn(*shape, device=GPU).to(of)

        def matrix(outputs: int, inputs: int, of: torch.dtype = dtype) -> Tensor:
            return (torch.randn(outputs, inputs, device=GPU) / inputs**0.5).to(of)

        rows = rank + 2 * states
        residual, norm, conv = normal(batch, width), normal(width), normal(inner, taps)
        bias, skip = (None, None) if small else (normal(inner), normal(inner))
        last = bias, -normal(inner, states).exp(), skip
        conv_state = normal(batch, taps - 1, inner, of=dtype)
        state = normal(batch, inner, states)
        u, z, y, x = (normal(batch, inner, of=dtype) for _ in range(4))
        low_bc, logits = normal(batch, rows, of=dtype), normal(batch, 501)
        low, B, C = low_bc.split([rank, states, states], -1)
        in_proj, x_proj = matrix(2 * inner, width), matrix(rows, inner)
        dt_proj, out_proj, head = matrix(inner, rank), matrix(width, inner), matrix(501, width)
        decode.step_in(residual, norm, 1e-5, in_proj, conv, bias, conv_state, u, z)
        decode.step_x(u, x_proj, low_bc)
        decode.step_scan(u, B, C, dt_proj, *last, z, state, y, low=low)
        decode.step_out(y, out_proj, residual)
        decode.step_head(residual, norm, 1e-5, head, logits)
        decode.step_conv(x, conv, bias, conv_state, u, silu=not small)
        decode.step_scan(u, B, C, x, *last, None, state, y)
        name = f"decode {dtype} N {states} batch {batch} small {small}"
        yield name, [residual, logits, conv_state, state, u, z, y]


def frozen() -> Iterator[tuple[str, list[Tensor]]]:
    """What only a frozen model runs: a scan with states kept rounded, and the loss."""
    for dtype, small in product(FLOATS, (True, False)):
        values = scan_inputs(2, 71, 80, 16, dtype=dtype, device=GPU, layouts={})
        u, dt, A, B, C, D, z, dt_bias = (values[name] for name in NAMES[:8])
        inputs = (u, dt, A, B, C, D, z, dt_bias)
        needs = (True, True, False, True, True, False, True, False, False)
        with pieces(small):
            y, _, starts = scan_cuda.scan_forward(inputs, True, None, frozen=True)
            grads = scan_cuda.scan_backward(torch.randn_like(y), None, starts, inputs, True, needs)
        yield f"frozen scan {dtype} small {small}", [y, *(g for g in grads if g is not None)]
    for dtype, words, gradient in product(FLOATS, (7, 4096, 50281), (True, False)):
        logits = torch.randn(5, words, device=GPU).to(dtype)
        targets = torch.tensor([0, words - 1, -100, 3, 1], device=GPU)
        losses, share = cross_entropy_(logits, targets, gradient=gradient)
        yield f"loss {dtype} V {words} gradient {gradient}", [losses, share]


PARTS = {
    **{f"scans_{str(dtype).removeprefix('torch.')}": partial(scans, dtype) for dtype in FLOATS},
    "convolutions": convolutions,
    "norms": norms,
    "decoding": decoding,
    "frozen": frozen,
}


def main() -> int:
    """0 if every result is finite."""
    if (reason := cuda.why_not()) is not None:
        print(f"no kernel can run: {reason}")
        return 2
    backend.choose("cuda")
    wrong = 0
    for name, results in chain.from_iterable(PARTS[part]() for part in sys.argv[1:] or PARTS):
        torch.cuda.synchronize()
        if not all(bool(result.isfinite().all()) for result in results):
            print(f"not finite: {name}")
            wrong += 1
    print(f"{len(cuda._kernels)} kernels ran, {wrong} gave a result that is not finite")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
