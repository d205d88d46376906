"""The page of `ctscribe clean`: what each filter did, and every change with its words marked."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ctscribe.files import write_atomically
from ctscribe.pages import Text, Words, environment
from ctscribe.tables.filters import FilterCount

if TYPE_CHECKING:
    import pandas as pd

LISTED_CHANGES, LISTED_REJECTED = 300, 100  # what a browser still opens at once; the CSVs have all
LONGEST = 4000  # characters of a text on the page

ABOUT_ZH = {
    "encoding_damage": "乱码",
    "deidentify": "姓名、编号、日期、电话",
    "normalise": "尺寸统一为毫米，标点统一",
    "characters": "全角数字、多余空格",
    "phone": "电话号码",
    "advertising": "广告与联系方式",
    "sex_age": "性别年龄",
    "placeholder": "未填写的模板",
    "repeats": "重复的语句",
    "drop_line": "要去掉的行",
    "keep_line": "不保留的行",
    "thorax_only": "胸部以外的内容",
    "empty": "没有内容",
    "generic_only": "空泛的一句话",
    "min_answer_chars": "过短",
    "require_keywords": "没有关键词",
    "numbered_prefix": "编号",
    "missing_image": "没有图像文件",
    "duplicate": "完全重复",
    "near_duplicate": "近似重复",
}


@dataclass(frozen=True)
class Piece:
    """A stretch of a changed text: kind is "same", "ins" or "del"."""

    kind: str
    text: str


@dataclass(frozen=True)
class Change:
    """One edit of one row."""

    row: str
    case_id: str
    filter: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Dropped:
    """One rejected row."""

    row: str
    case_id: str
    filter: str
    reason: str
    answer: str


@dataclass(frozen=True)
class DiffPage:
    """Everything the template shows; more_*: how many are in the CSV alone."""

    language: str
    source: str
    counts: Sequence[tuple[FilterCount, Words]]
    changes: tuple[Change, ...]
    dropped: tuple[Dropped, ...]
    more_changes: int
    more_dropped: int


def pieces(before: str, after: str) -> tuple[Piece, ...]:
    """The two texts in one, by character: without "ins" it is `before`, without "del" `after`."""
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    found = []
    for _, i, j, k, m in matcher.get_opcodes():
        if before[i:j] == after[k:m]:
            found.append(Piece("same", before[i:j]))
            continue
        found += [Piece("del", before[i:j])] if j > i else []
        found += [Piece("ins", after[k:m])] if m > k else []
    return tuple(found)


def write_diff(
    path: Path,
    source: str,
    changes: pd.DataFrame,
    rejected: pd.DataFrame,
    counts: Sequence[FilterCount],
    *,
    show_rejected: bool = True,
) -> None:
    """Write the page of a `CleanResult`; whole or not at all.

    show_rejected: with the texts of rejected rows, which hold whatever the source holds.
    """
    rows = changes.head(LISTED_CHANGES).to_dict("records")
    gone = rejected.head(LISTED_REJECTED).to_dict("records")
    shown = tuple(
        Change(str(r["row"]), str(r["case_id"]), str(r["filter"]), _pieces(r["before"], r["after"]))
        for r in rows
    )
    dropped = tuple(
        Dropped(
            str(r["row"]),
            str(r.get("case_id", "")),
            str(r["filter"]),
            str(r["reason"]),
            str(r["answer"])[:LONGEST] if show_rejected else "",
        )
        for r in gone
    )
    said = "".join(piece.text for change in shown for piece in change.pieces)
    said += "".join(row.answer for row in dropped)
    page = DiffPage(
        "zh" if re.search(r"[\u4e00-\u9fff]", said) or not said else "en",
        source,
        [(count, Text(ABOUT_ZH.get(count.name, count.about), count.about)) for count in counts],
        shown,
        dropped,
        len(changes) - len(shown),
        len(rejected) - len(dropped),
    )
    html = environment().get_template("clean_diff.html.j2").render(page=page)
    # Half a character cannot be written; a browser shows the mark for what was lost.
    write_atomically(path, html.encode("utf-8", "replace"))


def _pieces(before: str, after: str) -> tuple[Piece, ...]:
    if max(len(before), len(after)) > LONGEST:  # difflib takes minutes for the longest
        return (Piece("del", before[:LONGEST] + "…"), Piece("ins", after[:LONGEST] + "…"))
    return pieces(before, after)
