"""The frozen Mamba at the sizes of stage 2: larger pieces of work than the small cases have."""

import pytest
import torch

from ctscribe.model.frozen import FrozenMamba
from ctscribe.ops import cuda, scan_cuda
from tests.model.test_frozen import WIDTH, away, frozen_pair, mask_of, run, theirs
from tests.ops.emulator import emulated, needs_emulator

NO_GPU = pytest.mark.skipif(not cuda.available(), reason=f"{cuda.why_not()}")


def compare(place: str, batch: int, length: int, width: int) -> None:
    """Hidden states and gradient of a batch padded at the right, against transformers' own."""
    stock, ours = frozen_pair(width=width, states=16)
    g = torch.Generator().manual_seed(0)
    embeds, weigh = (torch.randn(batch, length, width, generator=g) for _ in range(2))
    mask = mask_of("right", batch, length)
    assert mask is not None
    seen = mask[..., None]
    wanted = theirs(stock, embeds, mask, weigh * seen)
    model, where = FrozenMamba(ours.to(place)), mask.to(place)
    got = run(lambda x: model(x, where), embeds.to(place), (weigh * seen).to(place))
    assert away(got[0].cpu() * seen, wanted[0] * seen) < 5e-5
    assert away(got[1], wanted[1]) < 1e-4


@needs_emulator
def test_the_kernels_for_many_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_cuda, "_MANY", 1)
    with emulated():
        compare("cpu", 1, 75, WIDTH)


@NO_GPU
@pytest.mark.parametrize(("batch", "length"), [(8, 230), (7, 175)])
def test_a_batch_of_stage_2_on_a_gpu(batch: int, length: int) -> None:
    compare("cuda", batch, length, 1024)
