"""The scan that Numba compiles: its threads, its cache, its polynomials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.ops import scan_cpu
from tests.ops.cases import NAMES, QUICK, assert_equal, assert_near, scan, scan_inputs, spec


@pytest.fixture
def threads() -> Any:
    """Sets the number of PyTorch's threads, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@settings(QUICK, max_examples=30)
@given(
    batch=st.integers(1, 3),
    length=st.one_of(st.integers(1, 100), st.sampled_from([31, 32, 33, 63, 64, 65])),
    width=st.one_of(st.integers(60, 200), st.sampled_from([63, 64, 65, 127, 128, 129])),
    n=st.sampled_from([1, 3, 8, 16]),
    reverse=st.booleans(),
    own=st.booleans(),
)
def test_blocks_chunks_and_threads_of_any_number(
    threads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
    length: int,
    width: int,
    n: int,
    reverse: bool,
    own: bool,
) -> None:
    values = scan_inputs(batch, length, width, n, dtype=torch.float32)
    gy, gstate = torch.randn(batch, length, width), torch.randn(batch, width, n)
    results = []
    with monkeypatch.context() as patch:
        patch.setattr(scan_cpu, "ALONE", 0)
        if own:  # as on Windows
            patch.setattr(scan_cpu, "_openmp", lambda: None)
        for count in (1, 2, 3):
            threads(count)
            results.append(scan(values, NAMES, gy, gstate, reverse=reverse))
    wanted = spec(values, NAMES, gy, gstate, reverse=reverse)
    for result, exact in zip(results[0], wanted, strict=True):
        assert_near(result, exact, torch.float32)
    for again in results[1:]:
        assert_equal(results[0], again)


@pytest.mark.parametrize("width", [64 * 40, 64 * 70 + 5])
def test_more_blocks_than_shares(width: int) -> None:
    values = scan_inputs(1, 35, width, 8, dtype=torch.float32)
    assert len(scan_cpu._shares(width)) <= scan_cpu.SHARES
    gy, gstate = torch.randn(1, 35, width), torch.randn(1, width, 8)
    wanted = spec(values, NAMES, gy, gstate)
    for result, exact in zip(scan(values, NAMES, gy, gstate), wanted, strict=True):
        assert_near(result, exact, torch.float32)


@pytest.mark.parametrize("own", [False, True])
def test_what_fails_in_a_thread_fails_the_scan(
    threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    threads(2)
    monkeypatch.setattr(scan_cpu, "ALONE", 0)
    if own:
        monkeypatch.setattr(scan_cpu, "_openmp", lambda: None)

    def fails(task: tuple[int, ...], *_: object) -> None:
        if task[1] == 3:
            raise MemoryError("no memory for this block")

    monkeypatch.setattr(scan_cpu, "_forward", fails)
    values = scan_inputs(1, 20, 64 * 6, 8, dtype=torch.float32)
    with pytest.raises(MemoryError, match="no memory for this block"):
        scan(values)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_numbers_show_wherever_the_spec_shows_them(name: str, bad: float) -> None:
    values = scan_inputs(2, 40, 70, 8, dtype=torch.float32)
    values[name].view(-1)[values[name].numel() // 2 + 1] = bad
    (got, _), (wanted, _) = scan(values, ()), spec(values, (), dtype=torch.float32)
    for key, exact in wanted.items():
        assert torch.equal(got[key].isfinite(), exact.isfinite()), key


def test_powers_of_two() -> None:
    x = np.random.default_rng(0).uniform(-126, 128, 3000).astype(np.float32)
    got = np.array([scan_cpu._exp2(value) for value in x], np.float64)
    assert np.abs(got / np.exp2(x.astype(np.float64)) - 1).max() < 2e-7
    exact = [-1e30, -np.inf, -127, -126, -1, 0, 1, 127, 128, 1e30, np.inf]
    wanted = [0, 0, 0, 2.0**-126, 0.5, 1, 2, 2.0**127, np.inf, np.inf, np.inf]
    assert [scan_cpu._exp2(np.float32(value)) for value in exact] == wanted
    assert np.isnan(scan_cpu._exp2(np.float32("nan")))


def _adds_one(x: Any) -> None:
    x[0] += 1


def _run(kernel: Any) -> float:
    x = np.zeros(1, np.float32)
    kernel(x)
    return float(x[0])


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [b"", b"\0" * 500, b"cut", None])
def test_a_broken_cache_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, damage: bytes | None
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert _run(scan_cpu._kernel(_adds_one)) == 1
    (file,) = tmp_path.rglob(f"*.{suffix}")
    file.write_bytes(file.read_bytes()[:50] if damage == b"cut" else damage or b"")
    if damage is None:
        file.unlink()
        file.mkdir()  # can be neither read nor replaced
    for _ in range(2):
        assert _run(scan_cpu._kernel(_adds_one)) == 1
    if damage is not None:
        kernel = scan_cpu._kernel(_adds_one)
        assert _run(kernel) == 1
        assert sum(kernel.stats.cache_hits.values()) == 1  # it was mended


def test_without_a_folder_for_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise RuntimeError("cannot cache function '_adds_one': no locator available")

    monkeypatch.setattr(scan_cpu._Cache, "__init__", none)
    assert _run(scan_cpu._kernel(_adds_one)) == 1
