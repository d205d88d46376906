"""A model that nnU-Net itself trained on phantoms, made once for all test processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.nnunet.trained import DATASET, environment

pytest.importorskip("nnunetv2", reason="nnU-Net is in the extra nnunet, and in test")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nnU-Net's results folder of the data set: a folder for each trainer, plans, configuration."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "nnunet"
    done = folder / "done"
    try:
        folder.mkdir()
    except FileExistsError:  # another test process makes it
        while not done.exists():
            assert time.time() - folder.stat().st_mtime < 600, "nnU-Net did not end"
            time.sleep(0.5)
    else:
        run = subprocess.run(
            [sys.executable, "-m", "tests.nnunet.trained", str(folder)],
            env=environment(folder),
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        done.write_text(run.stdout[-4000:] + run.stderr[-4000:], encoding="utf-8")
    results = folder / "results" / DATASET
    checkpoints = list(results.glob("*/fold_0/checkpoint_final.pth"))
    assert len(checkpoints) == 4, done.read_text(encoding="utf-8")
    return results


def raw_images(trained: Path) -> Path:
    """The folder of the images that it was trained on."""
    return trained.parents[1] / "raw" / DATASET / "imagesTr"
