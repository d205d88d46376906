"""Children that misbehave in every way end as one Outcome each, and nothing of them is left."""

import ctypes
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctscribe.errors import DataError, ImageError
from ctscribe.sandbox import ONE_THREAD, Limits, Outcome, run_each, run_one

MIB = 1 << 20
TIGHT = Limits(memory_bytes=200 * MIB, seconds=1.5)


class UnpicklableError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("of two numbers")


def misbehave(item: tuple[str, int]) -> object:
    """What each item asks for."""
    what, number = item
    if what == "square":
        return number * number
    if what == "hog":  # touches page after page, in steps that no single allocation betrays
        held = [np.ones(4 * MIB, np.uint8) for _ in range(number)]
        return len(held)
    if what == "hold":
        kept = np.ones(number * MIB, np.uint8)
        time.sleep(60)
        return len(kept)
    if what == "reserve":
        return len(np.zeros(number * MIB, np.uint8))
    if what == "sleep":
        time.sleep(number)
    if what == "spin":
        while True:
            pass
    if what == "segfault":
        ctypes.string_at(0)
    if what == "exit":
        sys.exit(number)
    if what == "os-exit":
        os._exit(number)
    if what == "killed":
        psutil.Process().kill()
    if what == "typed":
        raise ImageError("it is empty", fix="export it", case="A", file="a.nii", code="blank")
    if what == "deep":
        return misbehave(item)
    if what == "bug":
        raise ZeroDivisionError("a mistake in the program")
    if what == "unpicklable-bug":
        raise UnpicklableError(1, 2)
    if what == "unpicklable":
        return threading.Lock()
    if what == "big":
        return np.full(number * MIB, 7, np.uint8)
    if what == "temporary":
        Path(tempfile.mkdtemp(), "left").write_text("over")
        Path(os.environ["TMPDIR"], "left too").write_text("over")
        os._exit(number)
    if what == "environment":
        return {name: os.environ.get(name) for name in ONE_THREAD}
    if what == "pid":
        return os.getpid()
    if what == "folder":
        return tempfile.gettempdir()
    raise AssertionError(what)


def run(*items: tuple[str, int], workers: int = 1, limits: Limits = TIGHT) -> list[Outcome]:
    return list(run_each(misbehave, items, workers=workers, limits=limits))


def children() -> list[psutil.Process]:
    """Our children, but for the one that multiprocessing keeps until we end."""
    own = psutil.Process().children(recursive=True)
    return [p for p in own if "resource_tracker" not in " ".join(p.cmdline())]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> object:
    yield
    assert children() == []
    assert not [t for t in threading.enumerate() if t.name == "sandbox"]


def test_every_item_has_one_outcome_and_a_value() -> None:
    items = [("square", n) for n in range(50)]
    outcomes = run(*items, workers=2)
    assert sorted(o.item for o in outcomes) == items
    assert all(o.error is None and o.value == o.item[1] ** 2 for o in outcomes)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (("hog", 1000), "more than 200 MiB of memory"),
        (("reserve", 20_000), "more than 200 MiB of memory"),
        (("sleep", 60), "more than 1.5 seconds"),
        (("spin", 0), "more than 1.5 seconds"),
        (("deep", 0), "nested too deeply"),
        (("exit", 3), "crashed (exit code 3)"),
        (("exit", 0), "crashed (exit code 0)"),
        (("os-exit", 7), "crashed (exit code 7)"),
        pytest.param(
            ("segfault", 0),
            "crashed (SIGSEGV)",
            marks=pytest.mark.skipif(os.name == "nt", reason="Windows has exit codes"),
        ),
        pytest.param(
            ("killed", 0),
            "SIGKILL: is the machine out of memory?",
            marks=pytest.mark.skipif(os.name == "nt", reason="Windows has exit codes"),
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_limit_or_a_crash_is_a_typed_error_and_the_next_item_lives(
    item: tuple[str, int], words: str
) -> None:
    if item[0] == "reserve" and sys.platform != "linux":
        pytest.skip("what is reserved and never touched is refused on Linux alone")
    start = time.monotonic()
    # A busy machine must not run out of time before the item runs out of memory.
    slow = Limits(memory_bytes=200 * MIB, seconds=60)
    bad, good = run(item, ("square", 3), limits=TIGHT if "seconds" in words else slow)
    assert (bad.item, bad.value, good.value) == (item, None, 9)
    assert isinstance(bad.error, DataError)
    assert bad.error.code == "parse-limit"
    assert words in bad.error.reason
    assert time.monotonic() - start < 60  # nobody waited for the sleeper


def test_the_watcher_ends_what_the_second_wall_lets_through() -> None:
    (outcome,) = run(("hold", 300), limits=Limits(200 * MIB, seconds=60))
    assert outcome.error is not None
    assert "200 MiB of memory" in outcome.error.reason


def test_limits_hold_while_nobody_asks_for_results() -> None:
    outcomes = run_each(
        misbehave, [("square", 1), ("pid", 0), ("spin", 0)], workers=2, limits=TIGHT
    )
    next(outcomes)
    time.sleep(3)  # whoever reads the results is busy
    assert all(p.cpu_times().user < 2.5 for p in children())
    assert Counter(o.error is None for o in outcomes) == {True: 1, False: 1}


def test_typed_errors_come_back_whole() -> None:
    (outcome,) = run(("typed", 0))
    assert type(outcome.error) is ImageError
    assert outcome.error.code == "blank"
    assert str(outcome.error) == "case A, a.nii: it is empty. Fix: export it"


@pytest.mark.parametrize(
    ("item", "kind", "words"),
    [
        (("bug", 0), ZeroDivisionError, "a mistake in the program"),
        (("unpicklable-bug", 0), RuntimeError, "UnpicklableError: of two numbers"),
        (("unpicklable", 0), TypeError, "pickle"),
    ],
)
def test_other_exceptions_are_raised_here_with_the_childs_traceback(
    item: tuple[str, int], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words) as raised:
        run(("square", 1), item, ("square", 2), workers=2)
    (note,) = raised.value.__notes__
    assert "in a worker process" in note
    assert 'sandbox.py", line' in note


def test_large_results_come_whole_and_none_is_lost_to_a_slow_reader() -> None:
    found = 0
    for outcome in run_each(misbehave, [("big", 64)] * 3, workers=2, limits=TIGHT):
        assert isinstance(outcome.value, np.ndarray)
        assert (outcome.value == 7).all()
        found += len(outcome.value)
        time.sleep(2)  # longer than the limit, which is for reading
    assert found == 3 * 64 * MIB


def test_a_child_lives_on_until_something_goes_wrong() -> None:
    pids = [o.value for o in run(*[("pid", n) for n in range(20)])]
    assert len(set(pids)) == 1
    pids = [o.value for o in run(("pid", 0), ("exit", 1), ("pid", 1))]
    assert len(set(pids)) == 3
    assert None in pids


def test_closing_early_ends_all_children() -> None:
    outcomes = run_each(misbehave, [("pid", 0), ("spin", 0), ("spin", 1)], workers=2)
    assert next(outcomes).error is None
    assert len(children()) == 2
    outcomes.close()  # type: ignore[attr-defined]
    assert children() == []


def test_temporary_files_go_with_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    outcomes = run_each(misbehave, [("folder", 0), ("temporary", 1), ("spin", 0)], workers=1)
    folder = Path(str(next(outcomes).value))
    assert folder.is_relative_to(tmp_path)
    assert next(outcomes).error is not None
    assert folder.parent.is_dir()
    assert not folder.exists()
    outcomes.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_children_take_one_core_each_and_the_parents_environment_stays() -> None:
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    (outcome,) = run(("environment", 0))
    assert outcome.value == dict.fromkeys(ONE_THREAD, "1")
    assert {name: os.environ.get(name) for name in ONE_THREAD} == before


def test_one_item_gives_its_value_or_raises_what_ended_it() -> None:
    assert run_one(misbehave, ("square", 7)) == 49
    with pytest.raises(DataError) as ended:
        run_one(misbehave, ("sleep", 60), limits=TIGHT)
    assert ended.value.code == "parse-limit"


def test_nothing_to_do_and_no_workers() -> None:
    assert run() == []
    with pytest.raises(ValueError, match="workers is 0"):
        run(("square", 1), workers=0)


def test_a_child_that_cannot_load_the_function_says_so(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["gone"] = type(sys)("gone")
from ctscribe.sandbox import run_each
def lost(item): ...
lost.__module__, sys.modules["gone"].lost = "gone", lost
try:
    list(run_each(lost, [1], workers=1))
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "No module named 'gone'" in done.stdout


HUNG = """
import sys, time
from ctscribe.sandbox import run_each
from tests.test_sandbox import misbehave
outcomes = run_each(misbehave, [("pid", 0), ("spin", 1), ("spin", 2)], workers=2)
print(next(outcomes).value, flush=True)
next(outcomes)
"""


@pytest.mark.skipif(os.name == "nt", reason="sends signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_children_end_with_their_parent(name: str) -> None:
    import signal

    parent = subprocess.Popen(
        [sys.executable, "-c", HUNG],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    parent.stdout.readline()
    own = psutil.Process(parent.pid).children(recursive=True)
    assert len(own) >= 2
    if name == "SIGINT":  # Ctrl-C reaches all processes of a terminal
        os.killpg(parent.pid, signal.SIGINT)
    else:
        os.kill(parent.pid, signal.SIGKILL)
    _, said = parent.communicate(timeout=20)
    assert said.count("KeyboardInterrupt") == (name == "SIGINT")  # the children say nothing
    _, alive = psutil.wait_procs(own, timeout=10)
    assert not alive


def test_a_thousand_small_items_are_quick() -> None:
    outcomes = run_each(misbehave, [("square", n) for n in range(1000)], workers=2)
    next(outcomes)  # the children have started
    start = time.process_time()
    assert len(list(outcomes)) == 999
    assert time.process_time() - start < 1.0  # of this process, whatever else the machine does


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.sampled_from([("square", 3), ("typed", 0), ("exit", 1), ("segfault", 0), ("pid", 0)]),
        max_size=8,
    ),
    st.integers(1, 3),
)
def test_whatever_the_mix_each_item_has_exactly_one_outcome(
    items: list[tuple[str, int]], workers: int
) -> None:
    outcomes = run(*items, workers=workers)
    assert Counter(o.item for o in outcomes) == Counter(items)
    for outcome in outcomes:
        sound = outcome.item[0] in ("square", "pid")
        assert (outcome.error is None) == sound
        assert (outcome.value is not None) == sound
