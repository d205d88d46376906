"""Files of unknown origin are parsed in a child process, under a limit of memory and time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ctscribe.errors import CtscribeError

T = TypeVar("T")
R = TypeVar("R")


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
    items must be picklable (top level).
    """
    raise NotImplementedError
