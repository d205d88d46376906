"""`ctscribe split`: one caption table into parts by patient, each finding in proportion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctscribe.config import SplitConfig
from ctscribe.intake.balance import Said, balance_of, read_reports, stated, write_balance
from ctscribe.intake.leaks import require_no_leaks
from ctscribe.resolve import require
from ctscribe.sandbox import run_one
from ctscribe.tables.csv_file import LIMITS
from ctscribe.tables.leaks import Leak
from ctscribe.tables.manifest import Row, load_rows, read_table, rebase_paths, write_table
from ctscribe.tables.split import (
    WEIGHT_COLUMN,
    folds_by_patient,
    patient_key,
    sampler_weights,
    split_by_patient,
)


@dataclass(frozen=True)
class SplitResult:
    """Rows and file of each part, and the reports that two parts share (no more than that).

    Parts are train, val and test, or fold0_train, fold0_val and so on.
    """

    parts: dict[str, list[Row]]
    files: dict[str, Path]
    leaks: tuple[Leak, ...]


def run_split(config: SplitConfig) -> SplitResult:
    """Write INPUT_train.csv and so on, balance.html and balance.json; print what is in each part.

    A part whose ratio is 0 is not written. Raises DataError if a row cannot be used, if a part
    would be empty, or if a patient, an image or (unless `allow_similar_reports`) a measured report
    would stand in two parts; nothing is written then.
    """
    source = require(config, "input")
    folder = config.output_dir or source.parent
    rows = run_one(load_rows, source, limits=LIMITS)
    said = read_reports(rows)
    labels = _labels(rows, said) if config.stratify else None
    apart: dict[str, list[Row]]  # no patient is in two of these
    parts: dict[str, list[Row]]
    if config.folds:
        folds = folds_by_patient(rows, config.folds, seed=config.seed, labels=labels)
        apart = {f"fold{k}": own for k, own in enumerate(folds)}
        parts = {}
        for name, own in apart.items():
            held_out = _patients(own)
            rest = [row for row in rows if patient_key(row.patient_id) not in held_out]
            parts |= {f"{name}_train": rest, f"{name}_val": own}
    else:
        found = split_by_patient(
            rows,
            val_ratio=config.val_ratio,
            test_ratio=config.test_ratio,
            seed=config.seed,
            labels=labels,
        )
        apart = {part: own for part, own in found.items() if own}
        parts = dict(found.items())
    leaks = require_no_leaks(apart, allow_similar_reports=config.allow_similar_reports)
    files = _write(config, source, folder, parts, said)
    balance = balance_of(apart, said)
    page = write_balance(balance, folder)
    balance.print()
    for part, file in files.items():
        print(f"{part}: {len(parts[part])} rows of {len(_patients(parts[part]))} patients: {file}")
    print(f"balance of the parts: {page}")
    return SplitResult(parts, files, tuple(leaks))


def _labels(rows: Sequence[Row], said: Said) -> dict[str, set[str]]:
    """What the reports of each case state."""
    labels: dict[str, set[str]] = {}
    for row in rows:
        labels.setdefault(row.case_id, set()).update(stated(said[row]))
    return labels


def _patients(rows: Sequence[Row]) -> set[str]:
    return {patient_key(row.patient_id) for row in rows}


def _write(
    config: SplitConfig,
    source: Path,
    folder: Path,
    parts: Mapping[str, Sequence[Row]],
    said: Said,
) -> dict[str, Path]:
    frame = rebase_paths(read_table(source), source.parent, folder)
    keys = frame["patient_id"].map(patient_key)
    files = {}
    for part, own in parts.items():
        if own:
            table = frame[keys.isin(_patients(own))]  # rows in the order of `own`
            if config.sampler_weights and part.endswith("train"):
                weights = sampler_weights([stated(said[row]) for row in own])
                table = table.assign(**{WEIGHT_COLUMN: [f"{weight:.4f}" for weight in weights]})
            files[part] = folder / f"{source.stem}_{part}.csv"
            write_table(table, files[part])
    return files
