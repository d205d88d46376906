"""One thread a test process, and where kernels run in tests."""

import os
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from hypothesis import HealthCheck, settings

# Two processes on two cores: more threads only get in each other's way. Before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", "1")

from ctscribe.ops import cuda
from tests.ops.emulator import emulated, needs_emulator


@pytest.fixture(
    params=[
        pytest.param("cpu", id="emulated", marks=needs_emulator),
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(not cuda.available(), reason=f"no kernel: {cuda.why_not()}"),
        ),
    ]
)
def kernels_on(request: pytest.FixtureRequest) -> Iterator[str]:
    """A device whose tensors go to the kernels: a GPU, or the CPU that emulates one."""
    with emulated() if request.param == "cpu" else nullcontext():
        yield request.param


# How long an example takes says how busy the machine is.
settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-machine")
