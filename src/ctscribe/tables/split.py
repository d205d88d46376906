"""`ctscribe split`: one caption table into training, validation and test tables, by patient."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ctscribe.config import SplitConfig
from ctscribe.resolve import require
from ctscribe.tables.manifest import (
    Leak,
    Row,
    Split,
    check_leaks,
    load_rows,
    read_table,
    rebase_paths,
    refuse_leaks,
    split_by_patient,
    write_table,
)


@dataclass(frozen=True)
class SplitResult:
    """Rows and file of each part, and the reports that two parts share (no more than that)."""

    parts: dict[Split, list[Row]]
    files: dict[Split, Path]
    leaks: tuple[Leak, ...]


def run_split(config: SplitConfig) -> SplitResult:
    """Write INPUT_train.csv and so on, and print what is in each.

    A part whose ratio is 0 is not written. Raises DataError if a row cannot be used, if a part
    would be empty, or if a patient or an image would stand in two parts; nothing is written then.
    """
    source = require(config, "input")
    folder = config.output_dir or source.parent
    rows = load_rows(source)
    parts = split_by_patient(
        rows, val_ratio=config.val_ratio, test_ratio=config.test_ratio, seed=config.seed
    )
    leaks = check_leaks(parts)
    refuse_leaks(leaks)
    part_of = {row.patient_id: part for part, own in parts.items() for row in own}
    frame = rebase_paths(read_table(source), source.parent, folder)
    written: dict[Split, Path] = {}
    for part, own in parts.items():
        if own:
            here = frame["patient_id"].str.strip().map(part_of) == part
            written[part] = folder / f"{source.stem}_{part}.csv"
            write_table(frame[here], written[part])
            patients = len({row.patient_id for row in own})
            print(f"{part}: {len(own)} rows of {patients} patients: {written[part]}")
    for leak in leaks:
        one, two = leak.splits
        print(f"note: {leak.what}: {leak.cases[0]} ({one}) and {leak.cases[1]} ({two})")
    return SplitResult(parts, written, tuple(leaks))
