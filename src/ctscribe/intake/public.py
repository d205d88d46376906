"""`ctscribe import-dataset`: a public data set as it was downloaded becomes a caption table.

Each layout has its file, which names its source; a new one is a function and a line in `LAYOUTS`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ctscribe.errors import ConfigError, DataError
from ctscribe.sandbox import Limits, run_one
from ctscribe.settings import Config, setting

if TYPE_CHECKING:
    import pandas as pd

    from ctscribe.intake.dataset import Dataset

Layout = Literal["ct-rate", "radgenome", "m3d-cap", "lidc"]
LIMITS = Limits(seconds=86_400)  # every volume's header is read, of sets of 50,000
REJECTED_COLUMNS = ("source", "item", "case_id", "code", "reason", "answer")


@dataclass(frozen=True)
class DatasetOptions(Config):
    """`ctscribe import-dataset`."""

    section = "import_dataset"

    folder: Path | None = setting(None, "Folder of a public data set, as it was downloaded.")
    layout: Layout | None = setting(None, "Which set it is; left out, it is told by its files.")
    output: Path | None = setting(
        None, "The caption table; left out, caption_full.csv in the folder."
    )
    images: Path | None = setting(None, "Folder of LIDC's volumes, where they are not beside it.")


def read_dataset(folder: Path, layout: Layout, images: Path | None = None) -> Dataset:
    """All of a set. Raises DataError if it has no table of reports where its layout needs one."""
    from ctscribe.intake.ct_rate import read_ct_rate, read_radgenome
    from ctscribe.intake.lidc import read_lidc
    from ctscribe.intake.m3d_cap import read_m3d_cap

    if layout == "lidc":
        data = read_lidc(folder, images)
    else:
        read = {"ct-rate": read_ct_rate, "radgenome": read_radgenome, "m3d-cap": read_m3d_cap}
        data = read[layout](folder)
    data.require_sums()
    return data


def detect_layout(folder: Path) -> Layout:
    """The layout that the folder's names tell.

    Raises DataError if none or several do: both CT-RATE's reports and RadGenome's are such a case.
    """
    from ctscribe.intake.lidc import patients_of
    from ctscribe.intake.m3d_cap import cases_of

    if not folder.is_dir():
        raise DataError("there is no such folder", file=folder, fix="check it", code="missing")
    signs: dict[Layout, object] = {
        "ct-rate": any(folder.rglob("radiology_text_reports/*.csv")),
        "radgenome": any(folder.rglob("*region_report.csv")),
        "m3d-cap": cases_of(folder),
        "lidc": patients_of(folder),
    }
    found = [layout for layout, sign in signs.items() if sign]
    if len(found) != 1:
        what = f"it looks like {' and '.join(found)}" if found else "it looks like no known set"
        raise DataError(
            what,
            file=folder,
            fix=f"name --layout, one of {', '.join(get_args(Layout))}",
            code="bad-table",
        )
    return found[0]


def run_import_dataset(options: DatasetOptions) -> Dataset:
    """Read the set, print what is in rows and what is not, and write both tables.

    Writes the caption table and, beside it, *_rejected.csv; nothing if an error is raised. Raises
    ConfigError without a folder; DataError if the layout is unknown or nothing can be used.
    """
    from rich.console import Console

    from ctscribe.tables.csv_file import write_table

    if options.folder is None:
        raise ConfigError("no folder is given", fix="pass the folder of the data set")
    folder = options.folder
    layout = detect_layout(folder) if options.layout is None else options.layout
    output = options.output or folder / "caption_full.csv"
    data = run_one(
        partial(read_dataset, layout=layout, images=options.images), folder, limits=LIMITS
    )
    by_reason = Counter((r.source, r.code, r.reason) for r in data.rejected)
    if not data.images + data.reports:
        raise DataError(
            f"there is nothing of {layout} in it",
            file=folder,
            fix="give the folder as it was downloaded; or name another --layout",
            code="missing",
        )
    rejected = output.with_name(f"{output.stem}_rejected.csv")
    rows, left = _tables(data, folder, output.parent)
    write_table(rows, output)
    write_table(left, rejected)
    console = Console(soft_wrap=True, markup=False, highlight=False)
    console.print(f"{folder}: {layout}")
    for note in data.notes:
        console.print(note)
    for (source, code, reason), count in by_reason.most_common(20):
        console.print(f"left out, {source}: {count} × {code}: {reason}")
    for source, total in (("images", data.images), ("reports", data.reports)):
        lost = sum(r.source == source for r in data.rejected)
        console.print(f"{source}: {total} = {total - lost} in rows + {lost} rejected")
    console.print(f"{len(rows):6} rows: {output}")
    console.print(f"{len(left):6} rows: {rejected}")
    return data


def _tables(data: Dataset, folder: Path, out_dir: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    import pandas as pd

    from ctscribe.tables.manifest import COLUMNS, rebase

    def path(file: Path) -> str:
        inside = file.is_relative_to(folder)
        text = file.relative_to(folder).as_posix() if inside else str(file.resolve())
        return rebase(text, folder, out_dir)

    extra = dict.fromkeys(key for record in data.records for key in record.extra)
    masks = ["mask_path"] if any(record.mask for record in data.records) else []
    rows = [
        {
            "case_id": r.case_id,
            "patient_id": r.patient_id,
            "image_path": path(r.image),
            "question": r.question,
            "answer": r.answer,
            "mask_path": path(r.mask) if r.mask else "",
            **r.extra,
        }
        for r in data.records
    ]
    left = [{name: getattr(r, name) for name in REJECTED_COLUMNS} for r in data.rejected]
    table = pd.DataFrame(rows, columns=[*COLUMNS, *masks, *extra], dtype=str).fillna("")
    return table, pd.DataFrame(left, columns=list(REJECTED_COLUMNS), dtype=str)
