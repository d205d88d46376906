"""Everything that must hold of the data doctor, in one file: results/data.json.

    python benchmarks/data.py

Builds a share with every bad input and every sound neighbour and runs `ctscribe check` on it, takes
each guard out, runs labeller.py, deidentify.py, filters.py and dicom.py, and reads what fuzz.py
found when it was last run (it takes most of an hour). About 20 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from guards import REPO, proven
from machine import commit, machine

from ctscribe.files import write_atomically
from ctscribe.problems import Problem

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "numpy", "SimpleITK", "pydicom", "openpyxl", "pandas")
OTHERS = ("labeller", "deidentify", "filters", "dicom")
FUZZ_LEAST_MINUTES = 10


def checked_share() -> dict[str, Any]:
    """`ctscribe check` on all 25 faults and 25 sound cases: what it named and what it passed."""
    sys.path.insert(0, str(REPO))
    from tests.bad_inputs.faults import FAULTS
    from tests.bad_inputs.share import build, folder_of, names

    with tempfile.TemporaryDirectory(prefix="share-") as scratch:
        root, out = Path(scratch) / "share", Path(scratch) / "out"
        bad, good, _ = build(root, FAULTS)
        command = [sys.executable, "-m", "ctscribe", "check", str(root), "--output-dir", str(out)]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode != 2:
            raise RuntimeError(done.stderr)
        record = json.loads((out / "check.json").read_text(encoding="utf-8"))
    problems: dict[str, list[dict[str, str]]] = {}
    for case in record["examined"]:
        problems.setdefault(case["file"].split("/")[0], []).extend(case["problems"])
    missed = [
        variant.folder
        for variant in bad
        if not names(
            variant,
            [
                Problem(p["case"], p["file"], p["code"], p["detail"])
                for p in problems[folder_of(variant)]
            ],
        )
    ]
    alarmed = [
        one.folder for one in good if any(p["severity"] != "note" for p in problems[folder_of(one)])
    ]
    return {
        "faults": {
            f"{number} {name}": sum(v.fault == number for v in bad)
            for number, name in FAULTS.items()
        },
        "caught": len(FAULTS) - len({folder[:2] for folder in missed}),
        "missed": missed,
        "sound": len(good),
        "passed": len(good) - len(alarmed),
        "alarmed": alarmed,
        "cases": record["cases"],
        "accepted": record["accepted"],
        "rejected": record["rejected"],
        "seconds": round(seconds, 1),
    }


def result_of(name: str) -> dict[str, Any]:
    """What another benchmark wrote."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def run_others() -> None:
    """The benchmarks that this one sums up, each writing its own file."""
    for name in OTHERS:
        print(f"{name}.py ...", flush=True)
        subprocess.run([sys.executable, str(RESULTS.parent / f"{name}.py")], check=True, cwd=REPO)


def fuzzed() -> dict[str, Any]:
    """The least minutes that any parser was fuzzed, and everything found."""
    parsers = result_of("fuzz")["parsers"]
    ran = [entry for entry in parsers.values() if entry]
    return {
        "least_minutes": min((e["minutes"] for e in ran), default=0)
        if all(parsers.values())
        else 0,
        "found": sum(entry["found"] for entry in ran),
        "parsers": parsers,
    }


def first_contacts() -> dict[str, float]:
    """What texts of other authors showed before anything was mended with them, if it ever was."""
    deid, labeller = result_of("deidentify_first_contact"), result_of("labeller")["first_scores"]
    found = {
        f"labeller, strict F1, author {name[-1]}": entry["strict_f1"]
        for name, entry in labeller.items()
        if name.startswith("independent")
    }
    for name, entry in deid.items():
        if name.startswith("independent"):
            found[f"de-identification, recall, author {name[-1]}"] = round(
                entry["all"]["recall"], 4
            )
    for name, by_filter in result_of("filters")["first_contact"].items():
        if name.startswith("independent"):
            for rate in ("precision", "recall"):
                found[f"clean, ten filters, {rate}, author {name[-1]}"] = by_filter["all"][rate]
    kept_apart = result_of("labeller")["untouched"]["f1"]
    found["labeller, strict F1, author 6, no rule ever mended for it"] = kept_apart
    for name, entry in result_of("deidentify")["untouched"].items():
        what = f"de-identification, recall, author {name[-1]}, no rule ever mended for it"
        found[what] = round(entry["all"]["recall"], 4)
    return found


def figure(value: float, must: float, *, at_most: bool = False) -> dict[str, Any]:
    """A figure with its bound."""
    met = value <= must if at_most else value >= must
    return {"value": value, "bound": "at most" if at_most else "at least", "must": must, "met": met}


def main() -> None:
    """Run, write and print."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument(
        "--read-others", action="store_true", help="read the other benchmarks' last results"
    )
    arguments.add_argument("--out", type=Path, default=RESULTS / "data.json")
    given = arguments.parse_args()
    if not given.read_others:
        run_others()
    share = checked_share()
    print(f"check: {share['caught']} of 25 caught, {share['passed']} of 25 passed", flush=True)
    guards = proven()
    fuzz = fuzzed()
    deid, labeller = result_of("deidentify"), result_of("labeller")
    recall = min(part["recall"] for part in deid["known"].values())
    figures = {
        "bad_inputs_caught": figure(share["caught"], 25),
        "sound_cases_passed": figure(share["passed"], 25),
        "guards_proven": figure(sum(guards.values()), 25),
        "labeller_f1": figure(labeller["figures"]["labeller_f1"]["value"], 0.97),
        "deid_recall": figure(round(recall, 4), 0.99),
        "dicom_read_ratio": figure(
            result_of("dicom")["figures"]["dicom_read_ratio"]["value"], 1.2, at_most=True
        ),
        "fuzz_minutes": figure(fuzz["least_minutes"], FUZZ_LEAST_MINUTES),
        "fuzz_findings": figure(fuzz["found"], 0, at_most=True),
    }
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        **machine(torch.device("cpu"), PACKAGES),
        "figures": figures,
        "unseen": first_contacts(),
        "share": share,
        "guards": guards,
        "fuzz": fuzz["parsers"],
    }
    write_atomically(given.out, (json.dumps(record, indent=1) + "\n").encode())
    for name, entry in figures.items():
        print(f"{name:20} {entry['value']:8g}  {'ok' if entry['met'] else 'MISSED'}")
    sys.exit(0 if all(entry["met"] for entry in figures.values()) else 1)


if __name__ == "__main__":
    main()
