"""Take out each of the 25 guards in turn, and see its test turn red.

    python benchmarks/guards.py

`GUARDS` names, for each bad input, the lines that keep it out and what stands there without them.
Each is changed in a copy of the sources; the tests of that bad input must then fail, where they
pass on the copy as it is. Nothing in the repository is changed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).parents[1]
TESTS = "tests/test_bad_inputs.py"


@dataclass(frozen=True)
class Guard:
    """The guard against bad input `fault`: in `file` below src/ctscribe, `lines` become `without`.

    lines must stand there once.
    """

    fault: int
    file: str
    lines: str
    without: str


GUARDS: tuple[Guard, ...] = ()


def copy_of_sources(folder: Path) -> Path:
    """src/ctscribe in a folder of its own; what is large and no program is linked to."""
    package = folder / "src" / "ctscribe"
    shutil.copytree(
        REPO / "src/ctscribe", package, ignore=shutil.ignore_patterns("assets", "__pycache__")
    )
    (package / "assets").symlink_to(REPO / "src/ctscribe/assets", target_is_directory=True)
    return package


def passes(package: Path, faults: Sequence[int]) -> bool:
    """Whether the tests of these bad inputs pass with the sources in `package`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(package.parent), str(REPO)])}
    chosen = [f"{TESTS}::test_bad_input[{fault:02}]" for fault in faults]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, check=False)
    if done.returncode not in (0, 1):  # 1: tests ran and one failed
        raise RuntimeError(done.stdout.decode()[-3000:] + done.stderr.decode()[-3000:])
    return done.returncode == 0


def prove(guard: Guard) -> bool:
    """Whether the tests turn red without the guard."""
    with tempfile.TemporaryDirectory(prefix="guards-") as folder:
        package = copy_of_sources(Path(folder))
        file = package / guard.file
        text = file.read_text(encoding="utf-8")
        if text.count(guard.lines) != 1:
            raise RuntimeError(f"guard {guard.fault}: its lines do not stand once in {guard.file}")
        file.write_text(text.replace(guard.lines, guard.without), encoding="utf-8")
        return not passes(package, [guard.fault])


def proven(only: Sequence[int] = ()) -> dict[int, bool]:
    """For each bad input, whether its guard is proven; two at a time.

    Raises RuntimeError if a test fails with all guards in place, or could not run at all.
    """
    guards = [guard for guard in GUARDS if not only or guard.fault in only]
    with tempfile.TemporaryDirectory(prefix="guards-") as folder:
        package = copy_of_sources(Path(folder))
        if not passes(package, [guard.fault for guard in guards]):
            raise RuntimeError("the tests fail with every guard in place")
    found: dict[int, bool] = {}
    with ThreadPoolExecutor(2) as pool:
        for guard, is_proven in zip(guards, pool.map(prove, guards), strict=True):
            found[guard.fault] = found.get(guard.fault, True) and is_proven
            print(f"{guard.fault:2} {guard.file}: {'red' if is_proven else 'STILL GREEN'}")
    return found


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--only", type=int, nargs="*", default=(), help="numbers of bad inputs")
    found = proven(arguments.parse_args().only)
    print(f"{sum(found.values())} of {len(found)} guards proven")
    sys.exit(0 if all(found.values()) else 1)
