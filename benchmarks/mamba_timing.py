"""Timing that says what it timed: medians of repeats, CUDA graphs where launches would count."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

Call = Callable[[], object]
GIB = 2**30


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def wall_ms(call: Call, device: torch.device, repeats: int, warm_up: int = 1) -> float:
    """Median milliseconds of one call, its launches and one wait for the device included."""
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(repeats):
        wait(device)
        start = time.perf_counter()
        call()
        wait(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def device_ms(calls: Sequence[Call], device: torch.device, repeats: int) -> float:
    """Median milliseconds of one call on the device alone, over the calls in turn.

    On a GPU the calls are captured together in one CUDA graph, so no launch is waited for; give
    several calls on different inputs, larger together than the L2 cache. On a CPU: `wall_ms`.
    """
    if device.type != "cuda":
        return statistics.median(wall_ms(call, device, repeats) for call in calls)
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):  # compiles kernels and fills caches, which capture could not
        for call in calls:
            call()
    torch.cuda.current_stream(device).wait_stream(side)
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    times = []
    for repeat in range(repeats + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        if repeat >= 3:  # the first replays raise the clock
            times.append(start.elapsed_time(end))
    del graph
    return statistics.median(times) / len(calls)


def peak_gib(call: Call, device: torch.device) -> float | None:
    """The most memory PyTorch held on the GPU in a call, weights included; None on a CPU."""
    return wall_ms_and_gib(call, device, 1, warm_up=0)[1]


def wall_ms_and_gib(
    call: Call, device: torch.device, repeats: int, warm_up: int = 1
) -> tuple[float, float | None]:
    """`wall_ms` and `peak_gib` of the same calls."""
    if device.type != "cuda":
        return wall_ms(call, device, repeats, warm_up), None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    milliseconds = wall_ms(call, device, repeats, warm_up)
    return milliseconds, torch.cuda.max_memory_allocated(device) / GIB
