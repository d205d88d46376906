"""Every variant of the kernels once, over small shapes: what to run under compute-sanitizer.

    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck python tests/ops/sanitize.py
    compute-sanitizer --tool racecheck python tests/ops/sanitize.py

Run it once without, so that the kernels are compiled. Without PyTorch's memory cache each tensor is
an allocation of its own, and the sanitizer sees what is read past its end. `--error-exitcode 1`
makes its findings the exit code; this file's own is 1 for a result that is not finite.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

os.environ.setdefault("PYTORCH_NO_CUDA_MEMORY_CACHING", "1")
sys.path[:0] = [str(Path(__file__).parents[2])]

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from ctscribe.ops import backend, cuda  # noqa: E402
from ctscribe.ops.causal_conv import causal_conv1d  # noqa: E402
from tests.ops.cases import FLOATS, NAMES, OPTIONAL, laid_out, pieces, scan, scan_inputs  # noqa: E402

GPU = torch.device("cuda", 0)
FEW = ("u", "dt")  # no gradient of a parameter: kernels of their own


def scans() -> Iterator[tuple[str, list[Tensor]]]:
    """What a scan gives in each dtype, N, tiling and alignment, with everything and with little."""
    for dtype, n, small, aligned, full in product(
        FLOATS, (8, 16, 32, 64), (True, False), (True, False), (True, False)
    ):
        # Two tiles and a part of one, two blocks and a part; or less than one of each.
        length, width = (37, 80) if full else (3, 16)
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
            outputs, grads = scan(values, NAMES if full else FEW, gy, gstate)
        name = f"scan {dtype} N {n} small {small} aligned {aligned} full {full}"
        yield name, [*outputs.values(), *grads.values()]


def convolutions() -> Iterator[tuple[str, list[Tensor]]]:
    """What a convolution gives in each dtype, filter width and alignment."""
    for dtype, taps, aligned, full in product(FLOATS, (2, 3, 4), (True, False), (True, False)):
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
        y = causal_conv1d(*leaves[:2], bias, "silu" if full else None, initial, mask=mask)
        grads = torch.autograd.grad(y.float().square().sum(), leaves)
        yield f"conv {dtype} K {taps} aligned {aligned} full {full}", [y.detach(), *grads]


def main() -> int:
    """0 if every result is finite."""
    if (reason := cuda.why_not()) is not None:
        print(f"no kernel can run: {reason}")
        return 2
    backend.choose("cuda")
    wrong = 0
    for name, results in (*scans(), *convolutions()):
        torch.cuda.synchronize()
        if not all(bool(result.isfinite().all()) for result in results):
            print(f"not finite: {name}")
            wrong += 1
    print(f"{len(cuda._kernels)} kernels ran, {wrong} gave a result that is not finite")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
