"""The page of `ctscribe check`: totals, pictures of what was rejected, and every problem."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ctscribe.intake.check import SEVERITIES, CheckResult, below, shown
from ctscribe.intake.find import NotLookedAt
from ctscribe.pages import Text, environment
from ctscribe.problems import KINDS, Problem, Severity

MOST_PICTURES = 60  # cases with pictures; a page of thousands would not open
VERDICTS: dict[Severity, Text] = {
    "error": Text("错误", "error"),
    "warning": Text("警告", "warning"),
    "note": Text("提示", "note"),
}


@dataclass(frozen=True)
class Line:
    """One problem. fix: the finding's own in English, the kind's in Chinese."""

    case: str
    file: str
    code: str
    severity: Severity
    what: Text
    detail: str
    fix: Text


@dataclass(frozen=True)
class Pictures:
    """A case to look at: axial, coronal and sagittal slices as base64 PNG."""

    case: str
    facts: str
    rejected: bool
    lines: tuple[Line, ...]
    planes: tuple[str, ...]


@dataclass(frozen=True)
class CodeCount:
    """How often a problem occurs; share: of the commonest, for its bar."""

    code: str
    severity: Severity
    what: Text
    count: int
    share: float


@dataclass(frozen=True)
class CheckPage:
    """Everything the template shows. lines: every problem, the worst first."""

    source: str
    total: int
    accepted: tuple[str, ...]
    rejected: int
    counts: dict[Severity, int]
    codes: tuple[CodeCount, ...]
    pictures: tuple[Pictures, ...]
    more_pictures: int
    lines: tuple[Line, ...]
    others: tuple[NotLookedAt, ...]
    accepted_codes: tuple[str, ...]
    language: str = "zh"  # shown first


def check_page(result: CheckResult) -> CheckPage:
    """What the page shows of a result."""
    assert len(result.accepted) + len(result.rejected) == len(result.cases)
    seen = [case for case in result.cases if case.planes]
    seen.sort(key=lambda case: not result.is_rejected(case))
    pictures = tuple(
        Pictures(
            shown(case.case),
            case.facts,
            result.is_rejected(case),
            tuple(_line(result, p) for p in case.problems if result.severity(p) != "note"),
            case.planes,
        )
        for case in seen[:MOST_PICTURES]
    )
    return CheckPage(
        shown(str(result.input)),
        len(result.cases),
        tuple(shown(case.case) for case in result.accepted),
        len(result.rejected),
        result.counts,
        _codes(result),
        pictures,
        len(seen) - len(pictures),
        tuple(_line(result, problem) for problem in result.problems),
        tuple(NotLookedAt(shown(o.file), o.reason) for o in result.others),
        result.accepted_codes,
    )


def render_check(result: CheckResult) -> str:
    """The page as HTML; every string of a file is escaped."""
    template = environment().get_template("check.html.j2")
    return template.render(page=check_page(result), verdicts=VERDICTS)


def _line(result: CheckResult, problem: Problem) -> Line:
    kind = problem.kind
    fix = Text(kind.fix_zh, shown(problem.fix) or kind.fix_en)
    return Line(
        shown(problem.case),
        below(result, problem.file),
        problem.code,
        result.severity(problem),
        Text(kind.zh, kind.en),
        shown(problem.detail),
        fix,
    )


def _codes(result: CheckResult) -> tuple[CodeCount, ...]:
    counted = Counter((result.severity(p), p.code) for p in result.problems)
    most = max(counted.values(), default=1)
    ranked = sorted(counted.items(), key=lambda item: (SEVERITIES.index(item[0][0]), -item[1]))
    return tuple(
        CodeCount(code, severity, Text(KINDS[code].zh, KINDS[code].en), count, count / most)
        for (severity, code), count in ranked
    )
