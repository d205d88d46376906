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

    lines must stand there once. test: what must turn red, where it is not the bad input's own.
    """

    fault: int
    file: str
    lines: str
    without: str
    test: str = ""

    @property
    def tests(self) -> str:
        """The test that must turn red."""
        return self.test or f"{TESTS}::test_bad_input[{self.fault:02}]"


GUARDS = (
    Guard(
        1,
        "imaging/nifti_file.py",
        "BROKEN = (ValueError, OSError, EOFError,",
        "BROKEN = (ValueError, OSError,",
    ),
    Guard(
        2,
        "imaging/nifti.py",
        "array = _array(reader.Execute())\n    except (RuntimeError, *BROKEN)",
        "array = _array(reader.Execute())\n    except RuntimeError",
    ),
    Guard(3, "imaging/nifti_file.py", "if beyond > MOST_BEYOND_BYTES:", "if False:"),
    Guard(4, "imaging/nifti.py", "size[3:] not in ((), (1,))", "False"),
    Guard(5, "imaging/nifti.py", "or 1 in size[:3]:", "or False:"),
    Guard(6, "imaging/nifti.py", "int((~np.isfinite(plane)).sum())", "0"),
    Guard(7, "imaging/nifti.py", "bare = not image.origin_xyz.any()", "bare = False"),
    Guard(8, "imaging/nifti_file.py", "if shear > MOST_SHEAR:", "if False:"),
    Guard(9, "imaging/anatomy.py", 'faults += _verdict("mirrored", votes["mirrored"])', "pass"),
    Guard(
        10, "imaging/anatomy.py", "wrong_values = hu_fault(volume.array_zyx)", "wrong_values = None"
    ),
    Guard(
        11,
        "imaging/dicom_pixels.py",
        "slope, intercept = instance.slope, instance.intercept",
        "slope, intercept = 1.0, -1024.0",
    ),
    Guard(12, "imaging/dicom_geometry.py", "near.all() and counts.max() > 1:", "False:"),
    Guard(
        13,
        "imaging/dicom_geometry.py",
        "if off.max() > max(MOST_OFF_MM, MOST_OFF_SHARE * step):",
        "if False:",
    ),
    Guard(14, "imaging/dicom_geometry.py", "elif tilt > MOST_TILT_DEG and", "elif False and"),
    Guard(15, "imaging/dicom.py", "if differ or moved > SAME_MM:", "if False:"),
    Guard(
        16,
        "imaging/dicom_choice.py",
        "if series.sop_class.startswith(_SECONDARY_CAPTURE):",
        "if False:",
    ),
    Guard(
        17,
        "intake/examine.py",
        'problems.append(Problem("", str(case.path), "several-patients", detail))',
        "pass",
    ),
    Guard(18, "imaging/dicom_pixels.py", "if syntax not in NATIVE | COMPRESSED:", "if False:"),
    Guard(19, "imaging/dicom_pixels.py", "if low == high:", "if False:"),
    Guard(
        20, "imaging/dicom_header.py", "if is_part_10 and start.startswith(PROGRAMS):", "if False:"
    ),
    Guard(21, "intake/archive.py", 'if part == "..":', "if False:"),
    Guard(22, "tables/csv_file.py", "if len(kinds) < 2:", "if True:"),
    Guard(23, "tables/workbook.py", "if (row, column) in no_value:", "if False:"),
    # Linux opens long paths as they are: the test plays Windows.
    Guard(
        24,
        "files.py",
        "return Path(LONG_PREFIX + whole)",
        "return path",
        "tests/test_files.py::test_long_paths_are_marked_on_windows_alone",
    ),
    Guard(25, "intake/examine_table.py", "if len(answers) > 1:", "if False:"),
)


def copy_of_sources(folder: Path) -> Path:
    """src/ctscribe in a folder of its own; what is large and no program is linked to."""
    package = folder / "src" / "ctscribe"
    shutil.copytree(
        REPO / "src/ctscribe", package, ignore=shutil.ignore_patterns("assets", "__pycache__")
    )
    (package / "assets").symlink_to(REPO / "src/ctscribe/assets", target_is_directory=True)
    return package


def passes(package: Path, tests: Sequence[str]) -> bool:
    """Whether these tests pass with the sources in `package`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(package.parent), str(REPO)])}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
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
        return not passes(package, [guard.tests])


def proven(only: Sequence[int] = ()) -> dict[int, bool]:
    """For each bad input, whether its guard is proven; two at a time.

    Raises RuntimeError if a test fails with all guards in place, or could not run at all.
    """
    guards = [guard for guard in GUARDS if not only or guard.fault in only]
    with tempfile.TemporaryDirectory(prefix="guards-") as folder:
        package = copy_of_sources(Path(folder))
        if not passes(package, [guard.tests for guard in guards]):
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
