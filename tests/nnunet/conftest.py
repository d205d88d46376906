"""nnU-Net itself, and a model that it trained on phantoms: made once for all test processes."""

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctscribe.files import default_cache_dir
from tests.nnunet.trained import DATASET, environment

REPO = Path(__file__).parents[2]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")


@pytest.fixture(scope="session", autouse=True)
def nnunet() -> Iterator[Path | None]:
    """nnU-Net can be imported: its folder, or None where it is installed anyway."""
    if importlib.util.find_spec("nnunetv2") is not None:
        yield None
        return
    key = f"{sys.version_info[:2]} {sys.platform} ".encode() + REQUIREMENTS.read_bytes()
    folder = default_cache_dir() / f"nnunet-{hashlib.sha256(key).hexdigest()[:16]}"
    once(folder, _install)
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    yield folder
    sys.path.remove(str(folder))


def once(folder: Path, make: Callable[[Path], None]) -> None:
    """Make a folder whole, by one process while the others wait."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f"{folder.name}.lock")
    started = time.monotonic()
    while not folder.exists():
        try:
            lock.touch(exist_ok=False)
        except FileExistsError:  # another makes it, or was killed while it did
            with contextlib.suppress(FileNotFoundError):
                if time.time() - lock.stat().st_mtime > 900:
                    lock.unlink()
            assert time.monotonic() - started < 900, f"{folder} is not made"
            time.sleep(0.5)
            continue
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            make(part)
            part.rename(folder)
        finally:
            lock.unlink()


def _install(folder: Path) -> None:
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps"]
    where = ["--python", sys.executable, "--target", str(folder), "-r", str(REQUIREMENTS)]
    run = subprocess.run([*command, *where], capture_output=True, text=True, check=False)
    if run.returncode:
        last = run.stderr.strip().splitlines()[-1:]
        pytest.skip(f"nnU-Net can neither be imported nor installed: {last}")


@pytest.fixture(scope="session")
def trained(nnunet: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nnU-Net's results folder of the data set: a folder for each trainer, plans, configuration."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def train(folder: Path) -> None:
        folder.mkdir()
        paths = [str(REPO / "src"), *([str(nnunet)] if nnunet else [])]
        run = subprocess.run(
            [sys.executable, "-m", "tests.nnunet.trained", str(folder)],
            env={**environment(folder), "PYTHONPATH": os.pathsep.join(paths)},
            cwd=REPO,
            capture_output=True,
            text=True,
            check=False,
        )
        made = list(folder.glob(f"results/{DATASET}/*/fold_0/checkpoint_final.pth"))
        assert len(made) == 4, run.stdout[-4000:] + run.stderr[-4000:]

    folder = shared / "nnunet"
    once(folder, train)
    return folder / "results" / DATASET


def raw_images(trained: Path) -> Path:
    """The folder of the images that it was trained on."""
    return trained.parents[1] / "raw" / DATASET / "imagesTr"
