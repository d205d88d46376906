"""What two parts of a split share, and so tells the model the answer: patients, images, reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal, TypeVar

from ctscribe.errors import DataError
from ctscribe.tables.manifest import LISTED, Row
from ctscribe.tables.split import patient_key
from ctscribe.tables.text import is_of_one_study, near_identical

LeakKind = Literal["patient", "image", "report"]
Part = TypeVar("Part", bound=str)


@dataclass(frozen=True)
class Leak:
    """Something that stands in two parts of a split."""

    kind: LeakKind
    splits: tuple[str, str]
    cases: tuple[str, str]  # one of each part
    what: str  # the patient, the image's path, or how alike the reports are

    def __str__(self) -> str:
        one, two = zip(self.cases, self.splits, strict=True)
        return f"{self.what}: {one[0]} ({one[1]}) and {two[0]} ({two[1]})"


def check_leaks(
    parts: Mapping[Part, Sequence[Row]], images: Mapping[Path, str] | None
) -> list[Leak]:
    """What two parts share: patients, images and reports.

    images: of each image_path a key that equal images share (`imaging.duplicates.equal_images`); a
    path without one is equal to itself alone, and None looks at no image. Reports count if they are
    nearly the same, long, and give a measurement: what is left is said of many patients
    ("未见明显异常"). One leak for each patient, image or pair of reports, and pair of parts.
    """
    rows = [(part, row) for part, own in parts.items() for row in own]
    patients: dict[str, dict[str, Row]] = {}
    same: dict[str, dict[str, Row]] = {}
    for part, row in rows:
        patients.setdefault(patient_key(row.patient_id), {}).setdefault(part, row)
        if images is not None:
            key = images.get(row.image_path, str(row.image_path))
            same.setdefault(key, {}).setdefault(part, row)
    return [
        *_across("patient", patients),
        *_across("image", same),
        *_same_reports(rows),
    ]


def refuse_leaks(leaks: Sequence[Leak], *, allow_similar_reports: bool = False) -> None:
    """Raise DataError if a patient, an image or a measured report stands in two parts.

    It names `LISTED` of the first kind there is, and their number.
    """
    kinds: dict[LeakKind, tuple[str, str, str]] = {
        "patient": ("patient", "patient-leak", "split anew with ctscribe split"),
        "image": (
            "image",
            "image-duplicate",
            "give the same image one patient_id, or remove one of its rows",
        ),
        "report": (
            "measured report",
            "report-duplicate",
            "find out whose each report is; if every one is right: --allow-similar-reports",
        ),
    }
    for kind, (name, code, fix) in kinds.items():
        found = [leak for leak in leaks if leak.kind == kind]
        if found and not (kind == "report" and allow_similar_reports):
            listed = ", ".join(
                f"{leak.what} ({leak.cases[0]} in {leak.splits[0]}, {leak.cases[1]} in "
                f"{leak.splits[1]})"
                for leak in found[:LISTED]
            )
            more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
            raise DataError(
                f"{len(found)} {name}{'s stand' if len(found) > 1 else ' stands'} in two parts of "
                f"the split: {listed}{more}",
                fix=fix,
                code=code,
            )


def _across(kind: LeakKind, seen: Mapping[str, Mapping[str, Row]]) -> Iterator[Leak]:
    for by_part in seen.values():
        for (one, a), (two, b) in combinations(by_part.items(), 2):
            what = a.patient_id if kind == "patient" else str(a.image_path)
            yield Leak(kind, (one, two), (a.case_id, b.case_id), what)


def _same_reports(rows: Sequence[tuple[str, Row]]) -> list[Leak]:
    first: dict[tuple[str, str], Row] = {}  # of each part: templates would make pairs endless
    for part, row in rows:
        if is_of_one_study(row.answer):
            first.setdefault((part, row.answer), row)
    items = list(first.items())
    leaks = []
    for i, j, alike in near_identical([text for (_, text), _ in items]):
        ((one, _), a), ((two, _), b) = items[i], items[j]
        if one != two:
            what = f"reports {alike:.0%} alike"
            leaks.append(Leak("report", (one, two), (a.case_id, b.case_id), what))
    return leaks
