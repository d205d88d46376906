"""Run the demo as a newcomer would and keep its figures: python benchmarks/demo.py [--seed N]."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from ctscribe.config import DemoConfig
from ctscribe.evaluation.demo import run_demo

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Write `results/demo.json` from the figures that the demo itself measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/demo"))
    parser.add_argument("--from-nothing", action="store_true")
    given = parser.parse_args()
    page = run_demo(
        DemoConfig(output_dir=given.output_dir, seed=given.seed, from_nothing=given.from_nothing)
    )
    figures = json.loads((page.parent / "demo.json").read_text(encoding="utf-8"))
    figures = {"date": time.strftime("%Y-%m-%d"), **figures}
    name = "demo_from_nothing.json" if given.from_nothing else "demo.json"
    text = json.dumps(figures, indent=1, ensure_ascii=False)
    (RESULTS / name).write_text(text + "\n", encoding="utf-8")
    print(f"wrote {RESULTS / name}")


if __name__ == "__main__":
    main()
