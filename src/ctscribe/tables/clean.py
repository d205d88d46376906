"""`ctscribe clean`: a caption table without its dirt, and everything that was dropped beside it.

Nothing is lost: accepted and rejected rows together are the input, each rejected one with the
filter and the reason, and every edit is in `CleanResult.changes` as before and after. Cleaning
what was cleaned changes nothing: a row is kept only once a whole round of filters leaves it alone.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ctscribe.errors import ConfigError, DataError
from ctscribe.sandbox import run_one
from ctscribe.settings import Config, setting
from ctscribe.tables import filters
from ctscribe.tables.clean_page import LONGEST, write_diff
from ctscribe.tables.csv_file import LIMITS
from ctscribe.tables.damage import mend
from ctscribe.tables.filters import Candidate, Filter, FilterCount
from ctscribe.tables.manifest import (
    image_path,
    read_table,
    rebase_paths,
    refuse_images,
    write_table,
)
from ctscribe.tables.repeats import collapse
from ctscribe.tables.text import tidy

if TYPE_CHECKING:
    import pandas as pd

CHANGE_COLUMNS = ("row", "case_id", "filter", "before", "after")
NEEDED = ("image_path", "answer")  # all that cleaning must have; older tables have no more
MISSING_IMAGE, DEIDENTIFY, NORMALISE = "missing_image", "deidentify", "normalise"
ROUNDS = 10  # an edit may uncover what another takes out; nearly all texts settle in two
MANY_ROWS = 1000  # from here on it takes seconds, and a bar is shown
SHOWN = 3  # changes and rejected rows that a dry run prints of each filter
_PARAMETERS = {"drop_line", "keep_line", "min_answer_chars", "require_keywords"}
# Every filter in the order in which they run, and the flag that asks for it; "" runs unless it is
# skipped. Texts are edited before they are judged; duplicates are looked for last, so that the one
# that is kept is a sound one.
FILTERS = {
    "encoding_damage": "",
    DEIDENTIFY: "--deidentify",
    "characters": "",
    "phone": "",
    "advertising": "",
    "sex_age": "",
    "placeholder": "",
    "repeats": "",
    NORMALISE: "--normalise",
    "drop_line": "--drop-line-regex",
    "keep_line": "--keep-line-regex",
    "thorax_only": "--thorax-only",
    "empty": "",
    "generic_only": "--drop-generic-only",
    "min_answer_chars": "--min-answer-chars",
    "require_keywords": "--require-keywords",
    "numbered_prefix": "--force-numbered-prefix",
    MISSING_IMAGE: "",
    "duplicate": "",
    "near_duplicate": "--drop-near-duplicates",
}


@dataclass(frozen=True)
class CleanOptions(Config):
    """`ctscribe clean` and `scripts/clean_caption_csv.py`."""

    section = "clean"

    input: Path | None = setting(None, "CSV to clean.", key="caption_csv_train")
    output: Path | None = setting(None, "CSV to write; left out, INPUT_clean.csv beside the input.")
    dry_run: bool = setting(False, "Say what would be done, with examples, and write nothing.")
    filters: str | None = setting(
        None,
        "Run these alone, divided by commas, beside those that a flag asks for; of "
        + ", ".join(FILTERS)
        + ". They run in this order. Left out, all run that need no flag.",
    )
    skip_filters: str | None = setting(None, "Do not run these, divided by commas.")
    deidentify: bool = setting(
        False, "Replace names, ids, dates and phone numbers by placeholders such as [姓名]."
    )
    normalise: bool = setting(
        False, "Write sizes in mm, punctuation and lists in one way; no value is changed."
    )
    drop_missing_paths: bool = setting(
        False, "Drop rows whose image file is missing; without it they are an error."
    )
    min_answer_chars: int = setting(
        0, "Drop answers of fewer characters, spaces not counted.", low=0, high=100_000
    )
    require_keywords: str | None = setting(
        None, "Drop answers in which this regular expression is not found."
    )
    drop_generic_only: bool = setting(
        False, "Drop one-liners that say no more than that nothing is abnormal."
    )
    force_numbered_prefix: bool = setting(
        False, "Make the conclusion, or each line of a text without sections, begin with a number."
    )
    keep_line_regex: str | None = setting(
        None, "Keep only lines of the answer in which this regular expression is found."
    )
    drop_line_regex: str | None = setting(
        None, "Take out lines of the answer in which this regular expression is found."
    )
    thorax_only: bool = setting(
        False, "Take out what is said of other regions, and rows that say nothing of the thorax."
    )
    drop_near_duplicates: bool = setting(
        False, "Drop reports that are nearly another's: of the same image, or measured and long."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.wanted()
        for name in ("require_keywords", "keep_line_regex", "drop_line_regex"):
            compile_pattern(getattr(self, name), name)

    def wanted(self) -> list[str]:
        """Names of the filters to run, in their order; ConfigError for one that is not known."""
        asked, skipped = (
            _names(text, name)
            for text, name in ((self.filters, "filters"), (self.skip_filters, "skip_filters"))
        )
        flagged = {
            name
            for name, flag in FILTERS.items()
            if flag and getattr(self, flag[2:].replace("-", "_"))
        }
        for name in sorted((asked & _PARAMETERS) - flagged):
            raise ConfigError(
                f"--filters names {name}, which needs {FILTERS[name]}", fix=f"give {FILTERS[name]}"
            )
        chosen = asked or {name for name, flag in FILTERS.items() if not flag}
        return [name for name in FILTERS if name in (chosen | flagged) - skipped]


@dataclass(frozen=True)
class CleanResult:
    """kept: as read, with clean answers. rejected: as read, and `row`, `filter`, `reason`.

    changes: `row` (its line in a sheet: the first is 2), `case_id`, `filter`, `before`, `after`;
    what a private filter took out of `before` is blackened. kept and rejected have the columns of
    the input, in its order.
    """

    kept: pd.DataFrame
    rejected: pd.DataFrame
    changes: pd.DataFrame
    counts: tuple[FilterCount, ...]
    output: Path | None = None  # of `clean_file`: where the kept rows are (a dry run: would be)

    @property
    def rows_in(self) -> int:
        """Rows of the input, each of them kept or rejected."""
        return len(self.kept) + len(self.rejected)


@dataclass(frozen=True)
class Outputs:
    """The files that a run writes beside each other."""

    clean: Path
    rejected: Path
    changes: Path
    diff: Path


def compile_pattern(pattern: str | None, name: str) -> re.Pattern[str] | None:
    """A regular expression of the user's; ConfigError, naming the flag, if it is none."""
    if not pattern:
        return None
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ConfigError(
            f"--{name.replace('_', '-')} is {pattern!r}, which is no regular expression ({error})",
            fix="escape ( ) [ ] . * + ? | with a backslash where they are meant as such",
        ) from error


def build_filters(options: CleanOptions, extra: Sequence[Filter] = ()) -> list[Filter]:
    """The filters that the options ask for, in the order of `FILTERS`.

    extra: filters that this room cannot make itself, each with a name of `FILTERS`. Raises
    ConfigError if one is asked for that neither has.
    """
    keep = compile_pattern(options.keep_line_regex, "keep_line_regex")
    drop = compile_pattern(options.drop_line_regex, "drop_line_regex")
    made = [
        Filter("encoding_damage", "garbled characters", edit=mend, reject=filters.reject_damage),
        Filter("characters", "full-width digits, surplus spaces", edit=tidy),
        Filter("phone", "telephone numbers", edit=filters.strip_phones),
        Filter("advertising", "advertising and contact details", edit=filters.strip_advertising),
        Filter("sex_age", "statements of sex and age", edit=filters.strip_sex_age),
        Filter("placeholder", "unfilled templates", reject=filters.reject_unfilled),
        Filter("repeats", "phrases said again", edit=collapse, reject=filters.reject_stuck),
        *([_lines("drop_line", drop, matching=False)] if drop else []),
        *([_lines("keep_line", keep, matching=True)] if keep else []),
        Filter(
            "thorax_only",
            "other regions than the thorax",
            edit=filters.keep_thorax,
            reject=filters.reject_elsewhere,
        ),
        *content_filters(
            drop_generic_only=True,
            min_answer_chars=options.min_answer_chars,
            require_keywords=options.require_keywords,
            force_numbered_prefix=True,
        ),
        Filter(MISSING_IMAGE, "no image file", sift=filters.sift_missing_images),
        Filter("duplicate", "the same again", sift=filters.sift_duplicates),
        Filter("near_duplicate", "nearly the same again", sift=filters.sift_near_duplicates),
    ]
    by_name = {rule.name: rule for rule in (*made, *extra)}
    wanted = options.wanted()
    for name in wanted:
        if name not in by_name:
            raise ConfigError(
                f"{name} is asked for, which this call does not bring",
                fix="run ctscribe clean, or pass the filter as extra",
            )
    return [by_name[name] for name in wanted]


def content_filters(
    *,
    min_answer_chars: int,
    require_keywords: str | None,
    force_numbered_prefix: bool,
    drop_generic_only: bool = False,
) -> list[Filter]:
    """The filters that `clean` and `excel` share: whether an answer says enough, and its number."""
    keywords = compile_pattern(require_keywords, "require_keywords")
    made = [Filter("empty", "nothing left", reject=filters.reject_empty)]
    if drop_generic_only:
        made.append(Filter("generic_only", "empty one-liners", reject=filters.reject_generic))
    if min_answer_chars:
        short = filters.reject_short(min_answer_chars)
        made.append(Filter("min_answer_chars", "too short", reject=short))
    if keywords:
        without = filters.reject_without(keywords)
        made.append(Filter("require_keywords", "no keyword", reject=without))
    if force_numbered_prefix:
        made.append(Filter("numbered_prefix", "a number in front", edit=filters.number))
    return made


def clean_table(
    frame: pd.DataFrame, options: CleanOptions, base_dir: Path, extra: Sequence[Filter] = ()
) -> CleanResult:
    """Run the filters over a table read by `read_table`; the frame is left as it is.

    base_dir: what relative image paths are relative to. extra: see `build_filters`. Raises
    ImageError, naming `LISTED` of them and their number, if images are missing and
    `drop_missing_paths` is off; DataError for a Windows path on another system.
    """
    import pandas as pd
    from rich.console import Console
    from rich.progress import track

    rules = build_filters(options, extra)
    changes: list[tuple[int, str, str, str, str]] = []
    rejects: dict[int, tuple[str, str]] = {}
    missing: list[tuple[str, Path, str]] = []
    kept: dict[int, Candidate] = {}
    shown = track(
        _candidates(frame, base_dir),
        "rows",
        total=len(frame),
        console=Console(stderr=True),
        disable=len(frame) < MANY_ROWS,
    )
    for index, candidate in enumerate(shown):
        row, why = _settle(candidate, rules, index, changes)
        if why is None:
            kept[index] = row
        else:
            rejects[index] = why
    for rule in rules:
        if rule.sift is not None:
            places = list(kept)
            for place, reason in rule.sift(list(kept.values())).items():
                rejects[places[place]] = (rule.name, reason)
                row = kept.pop(places[place])
                if rule.name == MISSING_IMAGE and not options.drop_missing_paths:
                    missing.append((row.case_id, row.image_path, reason))
    refuse_images(missing, len(frame))
    order = sorted(rejects)
    answers = [row.answer for row in kept.values()]
    rejected = frame.iloc[order].assign(
        row=[str(index + 2) for index in order],
        filter=[rejects[index][0] for index in order],
        reason=[rejects[index][1] for index in order],
    )
    changed = Counter(name for _, _, name, _, _ in changes)
    dropped = Counter(name for name, _ in rejects.values())
    return CleanResult(
        frame.iloc[list(kept)].assign(answer=answers).reset_index(drop=True),
        rejected.reset_index(drop=True),
        pd.DataFrame(changes, columns=list(CHANGE_COLUMNS)),
        tuple(FilterCount(r.name, r.about, changed[r.name], dropped[r.name]) for r in rules),
    )


def _settle(
    row: Candidate,
    rules: Sequence[Filter],
    index: int,
    changes: list[tuple[int, str, str, str, str]],
) -> tuple[Candidate, tuple[str, str] | None]:
    """The row after rounds of its filters until one leaves it alone, or why it is dropped."""
    last = ""
    for _ in range(ROUNDS):
        start = row.answer
        for rule in rules:
            before, after = row.answer, rule.edited(row)
            if after != before:
                last = rule.name
                shown = _blackened(before, after) if rule.private else before
                changes.append((index + 2, row.case_id, rule.name, shown, after))
                row = replace(row, answer=after)
            reason = rule.reject(row) if rule.reject is not None else None
            if reason is not None:
                return row, (rule.name, reason)
        if row.answer == start:
            return row, None
    return row, (last, f"{last} still changes it after {ROUNDS} rounds")


def _blackened(before: str, after: str) -> str:
    """`before` with a block for each character that is not in `after`; a long one is all black."""
    if len(before) > LONGEST:  # difflib takes minutes for the longest
        return "█" * len(before)
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    pieces = []
    for kind, start, end, _, _ in matcher.get_opcodes():
        pieces.append(before[start:end] if kind == "equal" else "█" * (end - start))
    return "".join(pieces)


def clean_file(options: CleanOptions, extra: Sequence[Filter] = ()) -> CleanResult:
    """Clean the CSV of the options, print what was done, write the four files of `output_paths`.

    The CSV is read in a child process. Relative image paths are rewritten if the output stands in
    another folder. Raises ConfigError without an input or with the input as output, DataError if
    the CSV cannot be read or nothing would be left; nothing is written then, nor in a dry run.
    extra: see `build_filters`.
    """
    if options.input is None:
        raise ConfigError(
            "--input is not given",
            fix="pass --input, or set caption_csv_train in config/paths.yaml",
        )
    source = options.input
    outputs = output_paths(source, options.output)
    frame = run_one(partial(read_table, required=NEEDED), source, limits=LIMITS)
    result = clean_table(frame, options, source.parent, extra)
    if result.kept.empty:
        busiest = max(result.counts, key=lambda count: count.dropped, default=None)
        by = f", {busiest.dropped} were dropped by {busiest.name}" if busiest else ""
        raise DataError(
            f"no row of {len(frame)} is left{by}",
            file=source,
            fix="loosen that filter",
            code="bad-table",
        )
    if not options.dry_run:
        for part, path in ((result.kept, outputs.clean), (result.rejected, outputs.rejected)):
            write_table(rebase_paths(part, source.parent, path.parent), path)
        write_table(result.changes, outputs.changes)
        write_diff(
            outputs.diff,
            source.name,
            result.changes,
            result.rejected,
            result.counts,
            show_rejected=not any(rule.private for rule in extra),
        )
    _print(result, source, str(frame.attrs["encoding"]), None if options.dry_run else outputs)
    return replace(result, output=outputs.clean)


def output_paths(source: Path, output: Path | None) -> Outputs:
    """Where everything goes; ConfigError if that would overwrite the input."""
    output = output or source.with_name(f"{source.stem}_clean.csv")
    stem = output.stem.removesuffix("_clean")
    outputs = Outputs(
        output,
        output.with_name(f"{stem}_rejected.csv"),
        output.with_name(f"{stem}_changes.csv"),
        output.with_name(f"{stem}_diff.html"),
    )
    for path in (outputs.clean, outputs.rejected, outputs.changes, outputs.diff):
        if path.resolve() == source.resolve():
            raise ConfigError(
                f"--output {output} would overwrite the input", fix="choose another name"
            )
    return outputs


def _names(text: str | None, setting_name: str) -> set[str]:
    """Filters of a list divided by commas."""
    names = {n.strip().replace("-", "_") for n in (text or "").replace("，", ",").split(",")} - {""}
    unknown = sorted(names - FILTERS.keys())
    if unknown:
        raise ConfigError(
            f"--{setting_name.replace('_', '-')} names {', '.join(unknown)}, which is no filter",
            fix=f"choose of {', '.join(FILTERS)}",
        )
    return names


def _lines(name: str, pattern: re.Pattern[str], *, matching: bool) -> Filter:
    about = f"lines {'without' if matching else 'with'} {pattern.pattern}"
    return Filter(name, about, edit=filters.keep_lines(pattern, matching=matching))


def _candidates(frame: pd.DataFrame, base_dir: Path) -> Iterator[Candidate]:
    for line, record in enumerate(frame.to_dict("records"), 2):
        cells = {str(name): str(value) for name, value in record.items()}
        case = cells.get("case_id") or f"in row {line}"
        path = image_path(cells["image_path"], base_dir, case=case)
        patient, question = cells.get("patient_id", ""), cells.get("question", "")
        yield Candidate(case, path, question, cells["answer"], patient, cells)


def _print(result: CleanResult, source: Path, encoding: str, written: Outputs | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, markup=False, highlight=False)  # [ ] in a pattern is no style
    table = Table("filter", "what", "changed", "dropped", title=None)
    for count in result.counts:
        table.add_row(count.name, count.about, str(count.changed), str(count.dropped))
    kept, rejected = len(result.kept), len(result.rejected)
    console.print(f"{source}: {result.rows_in} rows, read as {encoding}")
    console.print(table)
    ran = {count.name for count in result.counts}
    idle = [f"{n} ({flag})" if flag else n for n, flag in FILTERS.items() if n not in ran]
    console.print(f"not run: {', '.join(idle) or 'none'}")
    if written is None:
        for line in _examples(result):
            console.print(line)
        console.print(f"dry run, nothing written: {kept} rows kept, {rejected} rejected")
        return
    console.print(f"{kept} rows kept: {written.clean}")
    console.print(f"{rejected} rows rejected: {written.rejected}")
    console.print(f"{len(result.changes)} changes: {written.changes}, to look at: {written.diff}")


def _examples(result: CleanResult) -> Iterator[str]:
    """The first changes and rejected rows of each filter."""
    for count in result.counts:
        for frame in (result.changes, result.rejected):
            for record in frame[frame["filter"] == count.name].head(SHOWN).to_dict("records"):
                row = f"{count.name}, row {record['row']}"
                if "after" in record:
                    yield f"{row}: {record['before']!r} becomes {record['after']!r}"
                else:
                    yield f"{row}: dropped, {record['reason']}"
