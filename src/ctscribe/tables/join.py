"""Reports and images joined by id: what completes each other, what contradicts, what is alone.

Each row of either side ends in one of `Status`; nothing is guessed at and nothing vanishes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ctscribe.tables.ids import Id, without_zeros

Side = Literal["excel", "images"]
# matched: in a caption table. repeated: the same again. twice: doubly matched, so not used.
# conflict: rows of one id contradict each other. unmatched: the other side has no such id.
# unusable: it, or its partner, has a fault of its own. hidden: in Excel, and so left out.
Status = Literal["matched", "repeated", "twice", "conflict", "unmatched", "unusable", "hidden"]


@dataclass
class Entry:
    """A row of the sheet or an image, with its id; `reason` is why it cannot be used.

    patient_is_number: its id stood there as a number, so zeros in front may be lost. parts: heading
    and text of each section. code: of `problems.KINDS`, of the reason, where one fits. file: of an
    image, the same for every way of writing its path. case: of an image, the case_id that its table
    gives it. head: the row of the same id that this one completes.
    """

    source: Side
    sheet: str
    row: int | str
    id: Id
    patient: str = ""
    patient_is_number: bool = False
    question: str = ""
    date: str = ""
    parts: dict[str, tuple[str, str]] = field(default_factory=dict)
    answer: str = ""
    image: str = ""
    file: str = ""
    case: str = ""
    status: Status = "matched"
    reason: str | None = None
    code: str = ""
    head: Entry | None = None
    completed_by: list[Entry] = field(default_factory=list)
    partner: Entry | None = None

    def reject(self, reason: str, *, status: Status = "unusable", code: str = "") -> None:
        """Say why it cannot be used; the first reason stays. It counts for what completes it."""
        if self.reason is None:
            self.reason, self.status, self.code = reason, status, code
        for other in self.completed_by:
            other.reject(f"with {self.label}: {reason}", status=status, code=code)

    @property
    def label(self) -> str:
        """Where it stands, for messages."""
        if self.sheet:
            return f"{self.sheet}!{self.row}"
        return f"row {self.row}" if isinstance(self.row, int) else self.row

    def says(self) -> dict[str, str]:
        """Everything that rows of one id must agree on."""
        said = {name or "报告": text for name, (_, text) in self.parts.items()}
        said |= {"patient": self.patient, "question": self.question}
        return {name: text for name, text in said.items() if text}


@dataclass(frozen=True)
class Conflict:
    """Two rows of one id that say different things in one column."""

    id: str
    one: Entry
    two: Entry
    column: str

    @property
    def difference(self) -> str:
        """The differing part, with a little of what stands around it."""
        return difference(self.one.says()[self.column], self.two.says()[self.column])


def difference(one: str, two: str, *, around: int = 8) -> str:
    """The texts without what they share at their ends: `…abc[x → y]def…`."""
    start = _shared(one, two)
    end = _shared(one[start:][::-1], two[start:][::-1])
    before, after = one[max(0, start - around) : start], one[len(one) - end :][:around]
    middle = f"[{one[start : len(one) - end]} → {two[start : len(two) - end]}]"
    return f"{'…' * (start > around)}{before}{middle}{after}{'…' * (end > around)}"


def _shared(one: str, two: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(two)))


def complete_reports(reports: Sequence[Entry]) -> list[Conflict]:
    """Rows of one id become one report, if they contradict each other nowhere.

    The first row takes what others add to it, from another sheet or below it; a row that adds
    nothing is a repetition. If one of an id's rows cannot be read, none of them is used: nobody can
    tell what it would have said.
    """
    conflicts = []
    for id_, group in by_id(e for e in reports if e.status != "hidden").items():
        if len(group) == 1:
            continue
        where = ", ".join(entry.label for entry in group)
        if broken := next((entry for entry in group if entry.reason is not None), None):
            for entry in group:
                entry.reject(f"{broken.label}, of the same id, cannot be read", code=broken.code)
            continue
        found = _conflicts(id_, group)
        if found:
            conflicts += found
            for entry in group:
                reason = f"{where} give id {id_} different reports or patients"
                entry.reject(reason, status="conflict", code="report-conflict")
            continue
        head, *others = group
        for entry in others:
            said = head.says()
            if entry.says().keys() <= said.keys():
                same = "the same again as" if entry.says() == said else "it adds nothing to"
                entry.reject(f"{same} {head.label}", status="repeated")
                continue
            head.parts |= entry.parts
            head.patient = head.patient or entry.patient
            head.question = head.question or entry.question
            entry.head = head
            head.completed_by.append(entry)
    return conflicts


def _conflicts(id_: str, group: Sequence[Entry]) -> list[Conflict]:
    first: dict[str, Entry] = {}
    found = []
    for entry in group:
        for column, text in entry.says().items():
            one = first.setdefault(column, entry)
            if one.says()[column] != text:
                found.append(Conflict(id_, one, entry, column))
    return found


def refuse_repeated_images(images: Sequence[Entry]) -> None:
    """Of an image that is listed twice one stays; of two images of an id, or two ids of an image,
    none does."""
    for id_, group in by_id(images).items():
        if len({e.file for e in group}) > 1:
            for entry in group:
                entry.reject(f"id {id_} has {len(group)} images", status="twice", code="unmatched")
        for entry in group[1:]:
            entry.reject(f"the same again as {group[0].label}", status="repeated")
    of_file: dict[str, list[Entry]] = {}
    for entry in images:
        if entry.reason is None:
            of_file.setdefault(entry.file, []).append(entry)
    for group in of_file.values():
        if len(group) > 1:
            ids = ", ".join(entry.id.text for entry in group)
            for entry in group:
                entry.reject(f"one image stands at ids {ids}", status="twice", code="unmatched")


def join(reports: Sequence[Entry], images: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    """Usable reports with the usable image of their id; the others get a reason.

    Ids are equal to the letter, with one exception: zeros in front that Excel took. They are put
    back where only one id of the other side can be meant; where several can, none is used.
    """
    known = {"excel": _ids(reports), "images": _ids(images)}
    usable = {entry.id.text: entry for entry in images if entry.reason is None}
    listed = by_id(images)
    spelled = {id_.casefold(): id_ for id_ in listed}
    pairs = []
    for report in reports:
        if report.reason is not None or report.head is not None:
            continue
        id_, key = report.id.text, without_zeros(report.id.text)
        ours, theirs = known["excel"].get(key, set()), known["images"].get(key, set())
        # "0123" and "123" are two studies, unless Excel may have made the one the other.
        unclear = max(len(ours), len(theirs)) > 1 and (ours != theirs or report.id.is_number)
        if unclear and theirs:
            report.reject(
                f"id {id_} may have lost zeros: the images have {several(theirs)}, the sheet "
                f"{several(ours)}",
                status="twice",
                code="bad-id",
            )
            continue
        name = id_ if id_ in theirs else next(iter(theirs), "")
        image = usable.get(name)
        if image is not None:
            report.partner, image.partner = image, report
            pairs.append((report, image))
        elif name:
            blocker = listed[name][0]
            report.reject(f"its image: {blocker.reason}", code=blocker.code or "unmatched")
        else:
            near = spelled.get(id_.casefold())
            hint = f"; {near} differs only in capital letters" if near else ""
            report.reject(f"no image has this id{hint}", status="unmatched", code="unmatched")
    _reject_lone_images(images, reports)
    return pairs


def _reject_lone_images(images: Sequence[Entry], reports: Sequence[Entry]) -> None:
    of_key: dict[str, Entry] = {}
    for report in reports:
        if report.id.text:
            of_key.setdefault(report.id.text, report)
            of_key.setdefault(f"0…{without_zeros(report.id.text)}", report)
    for image in images:
        if image.reason is None and image.partner is None:
            exact = of_key.get(image.id.text)
            partner = exact or of_key.get(f"0…{without_zeros(image.id.text)}")
            if partner is None:
                image.reject("no report has this id", status="unmatched", code="unmatched")
            else:
                image.reject(f"its report: {partner.reason}", code=partner.code or "unmatched")


def by_id(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Entries with an id, by it."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.id.text:
            groups.setdefault(entry.id.text, []).append(entry)
    return groups


def _ids(entries: Iterable[Entry]) -> dict[str, set[str]]:
    """Ids by what they are without zeros in front."""
    found: dict[str, set[str]] = {}
    for entry in entries:
        if entry.id.text:
            found.setdefault(without_zeros(entry.id.text), set()).add(entry.id.text)
    return found


def several(ids: Iterable[str]) -> str:
    """Ids in words."""
    return " and ".join(sorted(ids))
