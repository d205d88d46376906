"""The settings of `ctscribe import-dicom`: apart, since the command line must start at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ctscribe.settings import Config, setting


@dataclass(frozen=True)
class ImportOptions(Config):
    """`ctscribe import-dicom`."""

    section = "import_dicom"

    source: Path | None = setting(None, "Folder or zip of DICOM files, of any number of studies.")
    out: Path | None = setting(
        None, "Folder to write to; left out, SOURCE_ctscribe beside the source."
    )
    series_uid: str | None = setting(
        None,
        "SeriesInstanceUID to take in place of the chosen series of its study; commas between.",
    )
    any_region: bool = setting(False, "Import CTs that show no plausible chest, too.")
    hash_accession: bool = setting(
        False, "Write a pseudonym for the accession number, too; reports cannot be joined by it."
    )
    salt_file: Path | None = setting(
        None, "File of the secret behind all pseudonyms; left out, one in your folder of settings."
    )
    overwrite: bool = setting(
        False, "Read and write cases again that are there already; without it they are left."
    )
    dry_run: bool = setting(False, "Say what would be taken, by headers alone; write nothing.")
    workers: int = setting(2, "Studies that are read at once.", low=1, high=60)
    memory_gb: float = setting(8.0, "Memory that reading one study may take.", low=0.1, high=1024)
    minutes: float = setting(10.0, "Time that reading one study may take.", low=0.001, high=1440)
