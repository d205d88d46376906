"""Files of unknown origin are parsed in a child process, under a limit of memory and time.

A wall against files that crash, bloat or stall a reader, not against one that takes it over: the
child has the rights of the user, and its results are unpickled here.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.process import parent_process
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Generic, TypeVar

import psutil

from ctscribe.errors import CtscribeError, DataError

T = TypeVar("T")
R = TypeVar("R")
# What a child sends: value, error (a CtscribeError), limit (which), raise (another exception) or
# ready; its content; and the traceback of what is raised.
Answer = tuple[str, Any, str]

WATCH_S = 0.03  # between two looks at a child: at 3 GB/s it gets 100 MB beyond its limit
MOST_WORKERS = 60  # Windows waits for at most 63 handles at once
SLACK_BYTES = 256 << 20  # reserved, but never touched, by libraries that start threads
# Each child is one of several: if every one took all cores, they would only wait for each other.
ONE_THREAD = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


@dataclass(frozen=True)
class Limits:
    """What one item may take: memory beyond what the child has at rest, and seconds."""

    memory_bytes: int = 8 << 30
    seconds: float = 300.0


@dataclass(frozen=True)
class Outcome(Generic[T, R]):
    """What became of one item: `value`, or the error that ended it; never both."""

    item: T
    value: R | None
    error: CtscribeError | None


def run_each(
    function: Callable[[T], R], items: Sequence[T], *, workers: int, limits: Limits | None = None
) -> Iterator[Outcome[T, R]]:
    """`function(item)` of every item in child processes, in the order in which they end.

    A child lives on from item to item until one goes wrong. Raised CtscribeErrors come back as
    errors; a child that dies, takes more memory or more time than the limits is ended, and that
    comes back as DataError of code `parse-limit`; any other exception is raised here. function and
    items must be picklable (top level). Temporary files of the children are removed with them.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}, below 1")
    waiting = deque(range(len(items)))
    with _Pool(ForkingPickler.dumps(function), limits or Limits()) as pool:
        for _ in range(min(workers, len(items), MOST_WORKERS)):
            pool.start()
        while pool.children:
            for child in pool.reporting():
                job, answer = pool.collect(child)
                if not waiting:
                    pool.end(child)
                elif pool.fit(child) and child.hand(waiting[0], items[waiting[0]]):
                    waiting.popleft()
                else:
                    pool.end(child)
                    pool.start()
                if job is not None:
                    yield _outcome(items[job], answer)


def run_one(function: Callable[[T], R], item: T, *, limits: Limits | None = None) -> R:
    """`function(item)` in a child process; what `run_each` would give as an error is raised."""
    (outcome,) = run_each(function, [item], workers=1, limits=limits)
    if outcome.error is not None:
        raise outcome.error
    return outcome.value  # type: ignore[return-value]


def _outcome(item: T, answer: Answer) -> Outcome[T, Any]:
    kind, content, _ = answer
    if kind == "limit":
        fix = "export it again; do not open it with other programs"
        file = item if isinstance(item, Path) else None
        return Outcome(item, None, DataError(content, file=file, fix=fix, code="parse-limit"))
    return Outcome(item, None, content) if kind == "error" else Outcome(item, content, None)


# ------------------------------------------------------------------------------- in the parent


@dataclass(eq=False)
class _Child:
    """A worker process. job: the item it works on, None where it rests or is starting."""

    process: SpawnProcess
    pipe: Any  # a Connection; on Windows a PipeConnection
    folder: Path
    memory: psutil.Process
    lock: threading.Lock
    job: int | None = None
    since: float = 0.0
    first_rest: int | None = None  # bytes, when it was ready for its first item
    rest: int = 0  # bytes, before the item it works on
    ended_for: str = ""

    def bytes(self) -> int:
        """What it occupies; on Windows what it has claimed, since that is what runs out there."""
        info = self.memory.memory_info()
        return int(info.vms if sys.platform == "win32" else info.rss)

    def hand(self, job: int, item: Any) -> bool:
        """Give it an item; False if it has died meanwhile."""
        data = ForkingPickler.dumps(item)
        with self.lock:
            self.job, self.since = job, time.monotonic()
        try:
            self.pipe.send_bytes(data)
        except OSError:
            self.job = None
        return self.job is not None


class _Pool:
    """The children, and the thread that looks after their limits while nobody asks for results."""

    def __init__(self, function: memoryview, limits: Limits) -> None:
        self.function, self.limits = function, limits
        self.children: list[_Child] = []
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.watcher = threading.Thread(target=self._watch, name="sandbox", daemon=True)
        self.folder = tempfile.TemporaryDirectory(prefix="ctscribe-", ignore_cleanup_errors=True)

    def __enter__(self) -> _Pool:
        self.watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.watcher.join()
        for child in list(self.children):
            self.end(child)
        self.folder.cleanup()

    def start(self) -> None:
        """One more child; it reports once it is ready."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        folder = Path(tempfile.mkdtemp(dir=self.folder.name))
        arguments = (theirs, str(folder), self.limits.memory_bytes)
        process = context.Process(target=_serve, args=arguments, daemon=True)
        with _one_thread_each():
            process.start()
        theirs.close()
        assert process.pid is not None
        memory = psutil.Process(process.pid)
        with self.lock:
            self.children.append(_Child(process, ours, folder, memory, self.lock))
        with suppress(OSError):  # dead already: `collect` finds it
            ours.send_bytes(self.function)

    def end(self, child: _Child) -> None:
        """Kill it, whatever it does, and remove its temporary files."""
        with self.lock:
            child.job = None
            child.process.kill()
            child.process.join()
            self.children.remove(child)
        child.pipe.close()
        child.process.close()
        shutil.rmtree(child.folder, ignore_errors=True)

    def reporting(self) -> list[_Child]:
        """Wait for children that have an answer, are ready for their first item, or are dead."""
        while True:
            pipes = wait([child.pipe for child in self.children], timeout=0.25)
            # A child that dies at once does not always close its end of the pipe.
            with self.lock:
                found = [c for c in self.children if c.pipe in pipes or not c.process.is_alive()]
            if found:
                return found

    def collect(self, child: _Child) -> tuple[int | None, Answer]:
        """The job that it had, None if it had only started, and what became of it."""
        with self.lock:  # the watcher lets go of it: from here on it only sends
            job, child.job = child.job, None
        try:
            data = child.pipe.recv_bytes() if child.pipe.poll() else b""
        except (EOFError, OSError):
            data = b""
        if data:
            answer: Answer = pickle.loads(data)
            kind, content, trace = answer
            if kind == "raise":
                content.add_note(f"in a worker process:\n{trace}")
                raise content
            return job, answer
        child.process.join()
        crash = _crash(child.process.exitcode or 0)
        if job is None and not child.ended_for:
            raise RuntimeError(f"a worker process ended before its first item ({crash})")
        return job, ("limit", child.ended_for or f"the process that read it crashed ({crash})", "")

    def fit(self, child: _Child) -> bool:
        """Whether it may have another item; measures what it has at rest."""
        with self.lock:
            if child.ended_for or not child.process.is_alive():
                return False
        try:
            child.rest = child.bytes()
        except psutil.Error:
            return False
        if child.first_rest is None:
            child.first_rest = child.rest
        # What earlier items left behind is not the next one's fault; but it must not pile up.
        return child.rest - child.first_rest <= self.limits.memory_bytes

    def _watch(self) -> None:
        while not self.over.wait(WATCH_S):
            with self.lock:
                for child in self.children:
                    reason = self._exceeded(child) if child.job is not None else ""
                    if reason:
                        child.ended_for = reason
                        child.process.kill()

    def _exceeded(self, child: _Child) -> str:
        try:
            taken = child.bytes() - child.rest
            answering = child.pipe.poll()
        except (psutil.Error, OSError):  # it has died on its own
            return ""
        if taken > self.limits.memory_bytes:
            return _too_much(self.limits.memory_bytes)
        if time.monotonic() - child.since > self.limits.seconds and not answering:
            return f"reading it took more than {self.limits.seconds:g} seconds"
        return ""


def _too_much(memory_bytes: int) -> str:
    return f"reading it took more than {memory_bytes / (1 << 20):.0f} MiB of memory"


def _crash(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code:#x}" if exit_code > 255 else f"exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    return f"{name}: is the machine out of memory?" if name == "SIGKILL" else name


@contextmanager
def _one_thread_each() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


# -------------------------------------------------------------------------------- in the child


def _serve(pipe: Any, folder: str, memory_bytes: int) -> None:
    """What a child does: answers item after item until its parent closes the pipe or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches children too; the parent ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tempfile.tempdir = folder
    os.environ.update(TMPDIR=folder, TEMP=folder, TMP=folder)
    _crash_quietly()
    try:
        function = pickle.loads(pipe.recv_bytes())
    except Exception as error:
        pipe.send_bytes(_raised(error))
        return
    pipe.send_bytes(pickle.dumps(("ready", None, "")))
    while True:
        try:
            data = pipe.recv_bytes()
        except EOFError:
            return
        _second_wall(memory_bytes)
        pipe.send_bytes(_answer(function, data, memory_bytes))
        sys.stdout.flush()


def _answer(function: Callable[[Any], Any], data: bytes, memory_bytes: int) -> bytes:
    try:
        return bytes(ForkingPickler.dumps(("value", function(pickle.loads(data)), "")))
    except CtscribeError as error:
        return bytes(ForkingPickler.dumps(("error", error, "")))
    except MemoryError:
        return pickle.dumps(("limit", _too_much(memory_bytes), ""))
    except RecursionError:
        return pickle.dumps(("limit", "it is nested too deeply to be read", ""))
    except Exception as error:
        return _raised(error)


def _raised(error: Exception) -> bytes:
    """An exception and its traceback; what does not survive pickling becomes a RuntimeError."""
    trace = "".join(traceback.format_exception(error))
    try:
        data = pickle.dumps(("raise", error, trace))
        pickle.loads(data)
    except Exception:
        data = pickle.dumps(("raise", RuntimeError(f"{type(error).__name__}: {error}"), trace))
    return data


def _end_with_parent() -> None:
    """However the parent goes: nobody would end a child that is in an endless loop."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _crash_quietly() -> None:
    """No core file, no dialog that waits for a click."""
    if sys.platform == "win32":
        import ctypes

        # SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX | SEM_NOOPENFILEERRORBOX
        ctypes.windll.kernel32.SetErrorMode(0x8003)
    else:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _second_wall(memory_bytes: int) -> None:
    """Linux refuses what goes far beyond the limit, however fast: the watcher looks at intervals.

    Elsewhere the watcher is alone: macOS ignores this limit, Windows has none.
    """
    if sys.platform == "linux":
        import resource

        most = psutil.Process().memory_info().data + memory_bytes + SLACK_BYTES
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
