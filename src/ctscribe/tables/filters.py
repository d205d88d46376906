"""Named rules for the answers of a caption table: what to take out of a text, what to refuse.

Each filter edits an answer, gives a reason to drop its row, or looks at all rows that are left.
Editing filters work by clause and leave a text in which they find nothing exactly as it is.
`clean.py` runs them over a table.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ctscribe.tables import wording
from ctscribe.tables.damage import damage
from ctscribe.tables.manifest import image_fault
from ctscribe.tables.repeats import stuck
from ctscribe.tables.text import (
    HEADING,
    clauses,
    is_of_one_study,
    near_identical,
    says_nothing,
    sentences,
    tidy,
)
from ctscribe.tables.unfilled import unfilled

Edit = Callable[[str], str]
_COUNTED = re.compile(r"^\W*\d+\W*$|^[\d\s]*[号幢楼层栋室]\W*$")  # what an address goes on with
# Where a clause has its parts: at brackets, and at spaces, which Chinese has none between words.
_PARTS = re.compile(r"(?<=[\u4e00-\u9fff]\s)|(?<=\s)(?=[\u4e00-\u9fff])|(?<=[)）】])|(?=[(（【])")
GENERIC_CHARACTERS, GENERIC_WORDS = 40, 20  # most that a report without content has (zh, en)


@dataclass(frozen=True)
class Candidate:
    """One row on its way through the filters."""

    case_id: str
    image_path: Path
    question: str
    answer: str
    patient_id: str = ""
    cells: Mapping[str, str] = field(default_factory=dict, hash=False)  # the row as it was read


Reject = Callable[[Candidate], str | None]
Sift = Callable[[Sequence[Candidate]], Mapping[int, str]]


@dataclass(frozen=True)
class Filter:
    """A rule with a name and a sentence; it edits an answer, or says why a row must go.

    edit_row: an edit that needs the other cells of the row. sift: given the rows that all others
    keep, a reason for each that must go, by its place. private: what it takes out is not shown.
    """

    name: str
    about: str
    edit: Edit | None = None
    reject: Reject | None = None
    edit_row: Callable[[Candidate], str] | None = None
    sift: Sift | None = None
    private: bool = False

    def edited(self, row: Candidate) -> str:
        """The answer of a row after its edits, if it has any."""
        if self.edit_row is not None:
            return self.edit_row(row)
        return row.answer if self.edit is None else self.edit(row.answer)


@dataclass(frozen=True)
class FilterCount:
    """What one filter did."""

    name: str
    about: str
    changed: int
    dropped: int


def strip_phones(text: str) -> str:
    """Take out telephone numbers with what introduces them; numbers of studies stay."""
    return _drop_clauses(text, _without_phone)


def strip_advertising(text: str) -> str:
    """Take out clauses that advertise, and what stands by them if it says nothing clinical.

    Of a clause that is clinical as well, only the part between spaces or brackets that advertises.
    """
    text = re.sub(r"[【\[][^】\]\n]*[】\]](?=(.*))", _without_slogan, text)
    return _drop_clauses(text, _without_advertising)


def _without_slogan(match: re.Match[str]) -> str:
    slogan = wording.ADVERTISING.search(match[0]) and wording.CLINICAL.search(match[1])
    return "" if slogan and not wording.FINDING.search(match[0]) else match[0]


def _without_advertising(clause: str) -> str:
    praise = [match.span() for match in wording.ADVERTISING.finditer(clause)]
    if not praise:
        return clause
    seen = [match.span() for match in wording.FINDING.finditer(clause)]
    kept, at, dropping, clinical = "", 0, False, False
    for part in _PARTS.split(clause):
        end = at + len(part)
        found = any(s < end and at < e for s, e in seen)
        if not found and any(s < end and at < e for s, e in praise):
            dropping = True
        elif found or (part.strip() and not _leads_to_contact(part) and not _COUNTED.search(part)):
            dropping, clinical = False, True
        kept += "" if dropping else part
        dropping = dropping and not part.endswith((")", "）", "】"))
        at = end
    return kept if clinical else ""


def strip_sex_age(text: str) -> str:
    """Take out statements of the patient's sex and age, which the image does not show."""

    def replace(match: re.Match[str]) -> str:
        # A statement at a sentence's end leaves the stop to the clause before it.
        before = match.string[: match.start()].rstrip()
        stop = re.search(r"[。；;]", match[0][-3:])
        return stop[0] if stop and before.endswith(("，", ",", "、")) else ""

    stripped = wording.SEX_AGE.sub(replace, text)
    if stripped == text:
        return text
    return _settle(re.sub(r"[，,、]\s?(?=[。；])", "", stripped))


def keep_thorax(text: str) -> str:
    """Take out what is said of other regions; a clause that names none goes with the one before."""
    kept: list[str] = []
    for sentence in sentences(text):
        elsewhere = False
        for clause in clauses(sentence):
            if wording.THORAX.search(clause) or HEADING.fullmatch(clause):
                elsewhere = False
            elif wording.OTHER_REGION.search(clause):
                why = wording.HISTORY.search(clause) and wording.THORAX.search(sentence)
                elsewhere = not why
            _append(kept, clause, "" if elsewhere else clause)
    changed = "".join(kept)
    return text if changed == text else _settle(changed)


def keep_lines(pattern: re.Pattern[str], *, matching: bool) -> Edit:
    """An edit that keeps the lines in which the pattern is found (or is not)."""

    def edit(text: str) -> str:
        lines = text.split("\n")
        kept = [line for line in lines if bool(pattern.search(line)) is matching]
        return text if len(kept) == len(lines) else "\n".join(kept)

    return edit


def number(text: str) -> str:
    """Make the conclusion (or a text without sections: each line) begin with a number."""
    numbered = re.compile(r"\s*[(（]?\d{1,2}\s?[.、．)）]")
    if not text or numbered.match(text):
        return text
    section = re.search(
        r"(?:^|\n)[【\[]?(?:影像|检查)?(?:结论|诊断|印象|Impression)[】\]]?[:：]?\s*", text
    )
    if section:
        at = section.end()
        return text if numbered.match(text, at) else f"{text[:at]}1.{text[at:]}"
    if HEADING.match(text):
        return text
    lines = text.split("\n")
    return "\n".join(f"{n}.{line}" for n, line in enumerate(lines, 1))


def is_generic(text: str) -> bool:
    """Whether a report is one line that says "nothing abnormal" and no more.

    Short, without a measurement, each clause made of words that say so alone, or of an empty
    phrase: any other word may be a finding. A full report of a normal chest is not generic: it is
    how a model learns what normal is.
    """
    body = HEADING.sub("", tidy(text))
    if wording.MEASURE.search(body):
        return False
    chinese = len(re.findall(r"[\u4e00-\u9fff]", body))
    if chinese > GENERIC_CHARACTERS or len(re.findall("[A-Za-z]+", body)) > GENERIC_WORDS:
        return False
    pieces = [piece.strip(" ，,。.；;\n") for s in sentences(body) for piece in clauses(s)]
    pieces = [piece for piece in pieces if piece]
    return bool(pieces) and all(_says_nothing(piece) for piece in pieces)


def _says_nothing(clause: str) -> bool:
    normal = wording.NEUTRAL.sub("", wording.NOTHING_ABNORMAL.sub("", clause))
    return not all(any(map(str.isalnum, r)) for r in (normal, wording.FILLER.sub("", clause)))


def reject_empty(row: Candidate) -> str | None:
    """A reason if no report is left; see `says_nothing`."""
    return "nothing is left of the answer" if says_nothing(row.answer) else None


def reject_generic(row: Candidate) -> str | None:
    """A reason if the report says nothing; see `is_generic`."""
    return "says no more than that nothing is abnormal" if is_generic(row.answer) else None


def reject_short(minimum: int) -> Reject:
    """A filter for answers of fewer characters, white space not counted."""

    def reject(row: Candidate) -> str | None:
        length = len("".join(row.answer.split()))
        return f"{length} characters, fewer than {minimum}" if length < minimum else None

    return reject


def reject_without(pattern: re.Pattern[str]) -> Reject:
    """A filter for answers in which the pattern is not found."""

    def reject(row: Candidate) -> str | None:
        found = pattern.search(row.answer)
        return None if found else f"no keyword of {pattern.pattern}"

    return reject


def reject_elsewhere(row: Candidate) -> str | None:
    """A reason if the report does not speak of the thorax."""
    unplaced = wording.LESION.search(row.answer) and not wording.OTHER_REGION.search(row.answer)
    return None if unplaced or wording.THORAX.search(row.answer) else "says nothing of the thorax"


def reject_damage(row: Candidate) -> str | None:
    """A reason if characters are lost; see `damage.damage`."""
    what = damage(row.answer)
    return what and f"damaged text: {what}"


def reject_unfilled(row: Candidate) -> str | None:
    """A reason if a template was not filled in; see `unfilled.unfilled`."""
    what = unfilled(row.answer)
    return what and f"a template was not filled in: {what}"


def reject_stuck(row: Candidate) -> str | None:
    """A reason if most of the report is one phrase; see `repeats.stuck`."""
    phrase = stuck(row.answer)
    return phrase and f"says mostly {phrase[:40]}, again and again"


def sift_missing_images(rows: Sequence[Candidate]) -> dict[int, str]:
    """Rows without an image to read."""
    return {n: fault for n, row in enumerate(rows) if (fault := image_fault(row.image_path))}


def sift_duplicates(rows: Sequence[Candidate]) -> dict[int, str]:
    """Rows with the same answer on the same image and question as one above."""
    first: dict[tuple[str, str, str], str] = {}
    found = {}
    for place, row in enumerate(rows):
        key = (str(row.image_path), row.question, "".join(row.answer.split()))
        if key in first:
            found[place] = f"the same image and answer as case {first[key]} above"
        first.setdefault(key, row.case_id)
    return found


def sift_near_duplicates(rows: Sequence[Candidate]) -> dict[int, str]:
    """Rows with nearly the report of one above: on the same image, or a measured one elsewhere.

    Numbers, sides, lobes and negations must be the same: without, they are other findings. Two
    patients may well have the same short or normal report, and one patient the same finding at two
    studies; a long one with a measurement is of one patient only, and may have been pasted.
    """
    of_one_study = [is_of_one_study(row.answer) for row in rows]
    images = Counter(row.image_path for row in rows)
    watched = [n for n, r in enumerate(rows) if of_one_study[n] or images[r.image_path] > 1]
    carriers = {n: wording.CARRIER.findall(rows[n].answer.lower()) for n in watched}
    found: dict[int, str] = {}
    first: dict[tuple[str, ...], int] = {}
    for n in watched:
        said = wording.EMPTY.sub("", tidy(rows[n].answer).lower())
        plain = "".join(filter(str.isalnum, said))
        key = (str(rows[n].image_path), rows[n].question, plain, *carriers[n])
        if first.setdefault(key, n) != n and plain:
            case = rows[first[key]].case_id
            found[n] = f"in other words the report of case {case} above, on the same image"
    for i, j, alike in near_identical([rows[n].answer for n in watched]):
        one, two = watched[i], watched[j]
        if one in found or two in found or carriers[one] != carriers[two]:
            continue
        a, b = rows[one], rows[two]
        if a.image_path == b.image_path:
            if a.question == b.question:
                found[two] = f"{alike:.0%} the report of case {a.case_id} above, on the same image"
        elif of_one_study[two] and not (a.patient_id and a.patient_id == b.patient_id):
            found[two] = f"{alike:.0%} the measured report of case {a.case_id} above: whose is it?"
    return found


def _without_phone(clause: str) -> str:
    found = [m.span() for m in wording.LABELLED_PHONE.finditer(clause)]
    for match in wording.PHONE.finditer(clause):
        inside = any(start <= match.start() < end for start, end in found)
        if not inside and not wording.IDENTIFIER.search(clause[: match.start()]):
            found.append(match.span())
    if not found:
        return clause
    rest = clause
    for start, end in sorted(found, reverse=True):
        rest = f"{rest[:start]}\0{rest[end:]}"
    # A bracket around the number has whose it is, at most: "右肺结节（张医生138…）".
    closed = re.sub(
        r"[(（][^()（）\0]*\0[^()（）]*[)）]",
        lambda match: match[0] if wording.CLINICAL.search(match[0]) else "",
        rest,
    )
    if "\0" not in closed:
        return closed
    # "右肺结节 家属电话138…" keeps its finding, and not whose the number is.
    label = rf"{wording.PHONE_LABEL}\s?[:：]?(?=[\s，。；,.;]*$)"
    parts = [re.sub(label, "", part, flags=re.IGNORECASE) for part in _PARTS.split(rest)]
    kept = "".join(part for part in parts if not _only_contact(part)).replace("\0", "")
    return kept if any(map(str.isalnum, kept)) else ""


def _only_contact(part: str) -> bool:
    """Whether a part of a clause says whose a number is or what for, and nothing of the patient."""
    words = part.replace("\0", "")
    if wording.PHONE_OWNER.fullmatch(words):
        return "\0" in part
    empty = "\0" in part and not any(map(str.isalnum, words))
    return empty or bool(wording.CONTACT.search(words) and not wording.CLINICAL.search(words))


def _leads_to_contact(clause: str) -> bool:
    said = wording.CONTACT.search(clause) or wording.LEAD_IN.search(clause)
    return said is not None and not wording.CLINICAL.search(clause)


def _drop_clauses(text: str, edit: Edit) -> str:
    """Apply an edit to each clause. Where it empties one, what leads up to it goes too: words of
    contacts and offers, and nothing that may be of the patient."""
    kept: list[str] = []
    for sentence in sentences(text):
        pieces = clauses(sentence)
        edited = [edit(piece) for piece in pieces]
        if edited == pieces:
            kept += pieces
            continue
        emptied = any(new == "" for new in edited)
        for piece, new in zip(pieces, edited, strict=True):
            filler = emptied and not HEADING.fullmatch(new) and _leads_to_contact(new)
            _append(kept, piece, "" if filler else new)
    changed = "".join(kept)
    return text if changed == text else _settle(changed)


def _append(kept: list[str], clause: str, new: str) -> None:
    """Add an edited clause; a dropped one leaves its stop and line end to what stands before it."""
    if new:
        kept.append(new)
        return
    stop = re.search(r"[。；！？!?;.]?\s*$", clause)
    assert stop is not None
    if stop[0] and kept and re.search(r"[，,、；;]\s*$", kept[-1]):
        kept[-1] = re.sub(r"[，,、；;]\s*$", "", kept[-1]) + stop[0]
    elif "\n" in stop[0]:
        kept.append("\n")


def _settle(text: str) -> str:
    """Tidy an edited text: surplus spaces and lines, and headings that have lost their body."""
    heading = HEADING.pattern
    text = re.sub(rf"(?mi)^{heading}\s*(?=\Z|^{heading})", "", text)
    return tidy(re.sub(r"^[\s，,、。；;.]+|[\s，,、；;]+$", "", text))
