"""`ctscribe clean`: a caption table without its dirt, and everything that was dropped beside it.

Nothing is lost: accepted and rejected rows together are the input, each rejected one with the
filter and the reason, and every edit is in `CleanResult.changes` as before and after.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ctscribe.errors import ConfigError, DataError
from ctscribe.settings import Config, setting
from ctscribe.tables import filters
from ctscribe.tables.filters import Candidate, Filter
from ctscribe.tables.manifest import (
    image_path,
    read_table,
    rebase_paths,
    refuse_images,
    write_table,
)
from ctscribe.tables.text import tidy

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
NEEDED = ("image_path", "answer")  # all that cleaning reads; older tables have no more
MISSING_IMAGE = "missing_image"


@dataclass(frozen=True)
class CleanOptions(Config):
    """`ctscribe clean` and `scripts/clean_caption_csv.py`."""

    section = "clean"

    input: Path | None = setting(None, "CSV to clean.", key="caption_csv_train")
    output: Path | None = setting(None, "CSV to write; left out, INPUT_clean.csv beside the input.")
    dry_run: bool = setting(False, "Say what would be done and write nothing.")
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

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("require_keywords", "keep_line_regex", "drop_line_regex"):
            compile_pattern(getattr(self, name), name)


@dataclass(frozen=True)
class FilterCount:
    """What one filter did."""

    name: str
    about: str
    changed: int
    dropped: int


@dataclass(frozen=True)
class CleanResult:
    """kept: as read, with clean answers. rejected: as read, and `row`, `filter`, `reason`.

    changes: `row` (its line in a sheet: the first is 2), `case_id`, `filter`, `before`, `after`.
    Both frames have the columns of the input, in its order.
    """

    kept: pd.DataFrame
    rejected: pd.DataFrame
    changes: pd.DataFrame
    counts: tuple[FilterCount, ...]
    output: Path | None = None  # of `run_clean`: where the kept rows are (a dry run: would be)

    @property
    def rows_in(self) -> int:
        """Rows of the input, each of them kept or rejected."""
        return len(self.kept) + len(self.rejected)


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


def build_filters(options: CleanOptions) -> list[Filter]:
    """The filters that the options ask for, in the order in which they run.

    Texts are edited before they are judged, and rows that cannot be used are dropped before
    duplicates are looked for, so that the one that is kept is a sound one.
    """
    keep = compile_pattern(options.keep_line_regex, "keep_line_regex")
    drop = compile_pattern(options.drop_line_regex, "drop_line_regex")
    return [
        Filter("characters", "full-width digits, surplus spaces", edit=tidy),
        Filter("phone", "telephone numbers", edit=filters.strip_phones),
        Filter("advertising", "advertising and contact details", edit=filters.strip_advertising),
        Filter("sex_age", "statements of sex and age", edit=filters.strip_sex_age),
        *_if(drop, lambda p: _lines("drop_line", p, matching=False)),
        *_if(keep, lambda p: _lines("keep_line", p, matching=True)),
        *_if(
            options.thorax_only,
            lambda _: Filter(
                "thorax_only",
                "other regions than the thorax",
                edit=filters.keep_thorax,
                reject=filters.reject_elsewhere,
            ),
        ),
        *content_filters(
            drop_generic_only=options.drop_generic_only,
            min_answer_chars=options.min_answer_chars,
            require_keywords=options.require_keywords,
            force_numbered_prefix=options.force_numbered_prefix,
        ),
        Filter(MISSING_IMAGE, "no image file", reject=filters.reject_missing_image),
        Filter("duplicate", "the same again", reject=filters.reject_duplicates()),
    ]


def content_filters(
    *,
    min_answer_chars: int,
    require_keywords: str | None,
    force_numbered_prefix: bool,
    drop_generic_only: bool = False,
) -> list[Filter]:
    """The filters that `clean` and `excel` share: whether an answer says enough, and its number."""
    keywords = compile_pattern(require_keywords, "require_keywords")
    return [
        Filter("empty", "nothing left", reject=filters.reject_empty),
        *_if(
            drop_generic_only,
            lambda _: Filter("generic_only", "empty one-liners", reject=filters.reject_generic),
        ),
        *_if(
            min_answer_chars,
            lambda n: Filter("min_answer_chars", "too short", reject=filters.reject_short(n)),
        ),
        *_if(
            keywords,
            lambda p: Filter("require_keywords", "no keyword", reject=filters.reject_without(p)),
        ),
        *_if(
            force_numbered_prefix,
            lambda _: Filter("numbered_prefix", "a number in front", edit=filters.number),
        ),
    ]


def clean_table(frame: pd.DataFrame, options: CleanOptions, base_dir: Path) -> CleanResult:
    """Run the filters over a table read by `read_table`; the frame is left as it is.

    base_dir: what relative image paths are relative to. Raises ImageError, naming `LISTED` of them
    and their number, if images are missing and `drop_missing_paths` is off; DataError for a Windows
    path on another system.
    """
    import pandas as pd

    rules = build_filters(options)
    changed, dropped = dict.fromkeys(range(len(rules)), 0), dict.fromkeys(range(len(rules)), 0)
    answers: dict[int, str] = {}
    rejects: list[tuple[int, str, str]] = []
    changes: list[tuple[int, str, str, str, str]] = []
    missing: list[tuple[str, Path, str]] = []
    for index, candidate in enumerate(_candidates(frame, base_dir)):
        for number, rule in enumerate(rules):
            if rule.edit is not None:
                after = rule.edit(candidate.answer)
                if after != candidate.answer:
                    changed[number] += 1
                    before = candidate.answer
                    changes.append((index + 2, candidate.case_id, rule.name, before, after))
                    candidate = replace(candidate, answer=after)
            reason = rule.reject(candidate) if rule.reject is not None else None
            if reason is not None:
                if rule.name == MISSING_IMAGE and not options.drop_missing_paths:
                    missing.append((candidate.case_id, candidate.image_path, reason))
                dropped[number] += 1
                rejects.append((index, rule.name, reason))
                break
        else:
            answers[index] = candidate.answer
    refuse_images(missing, len(frame))
    kept = frame.iloc[list(answers)].assign(answer=list(answers.values()))
    rejected = frame.iloc[[index for index, _, _ in rejects]].assign(
        row=[str(index + 2) for index, _, _ in rejects],
        filter=[name for _, name, _ in rejects],
        reason=[reason for _, _, reason in rejects],
    )
    return CleanResult(
        kept.reset_index(drop=True),
        rejected.reset_index(drop=True),
        pd.DataFrame(changes, columns=["row", "case_id", "filter", "before", "after"]),
        tuple(FilterCount(r.name, r.about, changed[n], dropped[n]) for n, r in enumerate(rules)),
    )


def run_clean(options: CleanOptions) -> CleanResult:
    """Clean the CSV of the options, print what was done, write OUTPUT and its _rejected.csv.

    Relative image paths are rewritten if the output stands in another folder. Raises ConfigError
    without an input or with the input as output, DataError if nothing would be left; nothing is
    written then, nor in a dry run.
    """
    if options.input is None:
        raise ConfigError(
            "--input is not given",
            fix="pass --input, or set caption_csv_train in config/paths.yaml",
        )
    source = options.input
    output, rejected_csv = output_paths(source, options.output)
    frame = read_table(source, required=NEEDED)
    result = clean_table(frame, options, source.parent)
    if result.kept.empty:
        busiest = max(result.counts, key=lambda count: count.dropped)
        raise DataError(
            f"no row of {len(frame)} is left, {busiest.dropped} were dropped by {busiest.name}",
            file=source,
            fix="loosen that filter",
        )
    if not options.dry_run:
        for part, path in ((result.kept, output), (result.rejected, rejected_csv)):
            write_table(rebase_paths(part, source.parent, path.parent), path)
    written = None if options.dry_run else (output, rejected_csv)
    _print(result, source, str(frame.attrs["encoding"]), written)
    return replace(result, output=output)


def output_paths(source: Path, output: Path | None) -> tuple[Path, Path]:
    """Where the clean and the rejected rows go; ConfigError if that would overwrite the input."""
    output = output or source.with_name(f"{source.stem}_clean.csv")
    rejected = output.with_name(f"{output.stem.removesuffix('_clean')}_rejected.csv")
    for path in (output, rejected):
        if path.resolve() == source.resolve():
            raise ConfigError(
                f"--output {output} would overwrite the input", fix="choose another name"
            )
    return output, rejected


def _if(wanted: T | None, make: Callable[[T], Filter]) -> list[Filter]:
    return [make(wanted)] if wanted else []


def _lines(name: str, pattern: re.Pattern[str], *, matching: bool) -> Filter:
    about = f"lines {'without' if matching else 'with'} {pattern.pattern}"
    return Filter(name, about, edit=filters.keep_lines(pattern, matching=matching))


def _candidates(frame: pd.DataFrame, base_dir: Path) -> Iterator[Candidate]:
    for line, record in enumerate(frame.to_dict("records"), 2):
        case = str(record.get("case_id") or f"in row {line}")
        path = image_path(str(record["image_path"]), base_dir, case=case)
        yield Candidate(case, path, str(record.get("question", "")), str(record["answer"]))


def _print(
    result: CleanResult, source: Path, encoding: str, written: tuple[Path, Path] | None
) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, markup=False, highlight=False)  # [ ] in a pattern is no style
    table = Table("filter", "what", "changed", "dropped", title=None)
    for count in result.counts:
        table.add_row(count.name, count.about, str(count.changed), str(count.dropped))
    kept, rejected = len(result.kept), len(result.rejected)
    console.print(f"{source}: {result.rows_in} rows, read as {encoding}")
    console.print(table)
    if written is None:
        console.print(f"dry run, nothing written: {kept} rows kept, {rejected} rejected")
        return
    console.print(f"{kept} rows kept: {written[0]}")
    console.print(f"{rejected} rows rejected: {written[1]}")
