"""Sections of a report: 所见 / 结论 / 建议 / 病理倾向, or Findings / Impression / and so on.

Reading is tolerant (【所见】, "所见:" or "所见：", any order, headings alone on a line or after the
end of a sentence); writing has one form, and what was written reads back the same.
"""

from __future__ import annotations

import re

from ctscribe.reports.language import detect_language
from ctscribe.reports.schema import Language, Report

# In the order they are written. Labels are read from the first two alone.
SECTIONS = (
    *("technique", "history", "comparison"),
    *("findings", "impression", "recommendation", "pathology"),
)
HEADINGS: dict[Language, dict[str, str]] = {
    "zh": {
        "technique": "检查技术",
        "history": "临床病史",
        "comparison": "比较",
        "findings": "所见",
        "impression": "结论",
        "recommendation": "建议",
        "pathology": "病理倾向",
    },
    "en": {
        "technique": "Technique",
        "history": "Clinical history",
        "comparison": "Comparison",
        "findings": "Findings",
        "impression": "Impression",
        "recommendation": "Recommendation",
        "pathology": "Pathology tendency",
    },
}
# Other words that hospitals use for the same sections; the longer of two comes first.
_SYNONYMS: dict[str, str] = {
    "technique": r"(?:检查|扫描|成像)(?:技术|方法|参数|部位)|Techniques?|Procedure|Protocol",
    "history": r"(?:临床|主要)?病史|临床(?:诊断|资料|信息|症状|表现)|主诉|既往史|现病史"
    r"|家族史|(?:检查|申请)目的|适应[症证]|临床资讯"
    r"|(?:Clinical|Medical|Family) (?:history|information|data|details)|History"
    r"|(?:Clinical )?Indications?(?: for (?:exam(?:ination)?|study))?|Clinical (?:question|summary)"
    r"|Reason for (?:exam(?:ination)?|study)",
    "comparison": r"比较|对比|对照(?:检查|片)|对比检查|既往(?:检查|影像)"
    r"|Comparisons?(?: (?:study|studies|exam))?"
    r"|Prior (?:study|studies|exams?|examinations?)",
    "findings": r"(?:影像|检查|CT|放射|胸部)?(?:CT)?学?(?:所见|表现|描述|征象)"
    r"|(?:CT |Imaging |Chest )?Findings?",
    "impression": r"(?:影像|检查|放射|CT|初步)?学?(?:结论|诊断|印象)(?:意见|结果|提示)?"
    r"|(?:影像|诊断)提示|诊断意见"
    r"|Impressions?|Conclusions?|Opinion|(?:Radiological )?Diagnosis|Summary",
    "recommendation": r"(?:处理|诊疗|随访|复查|检查)?(?:建议|意见)"
    r"|Recommendations?|Advice|Suggestions?",
    "pathology": r"病理(?:倾向|考虑|提示)|Patholog(?:y|ical) tendency|Pathology",
}
_BRACKETED = "|".join(f"(?P<{section}_b>{words})" for section, words in _SYNONYMS.items())
_PLAIN = "|".join(f"(?P<{section}_p>{words})" for section, words in _SYNONYMS.items())
# A heading starts the text, a line or a sentence, and ends with a colon, a bracket or the line.
# Blanks are counted, or a page of empty lines would be gone through once for each of them.
_START = r"(?:^|(?<=[\n。；;.!?！？】\]])|(?<=[\n。；;.]\s))[^\S\n]{0,20}"
_NUMBER = r"(?:[一二三四五六七]、|[（(][一二三四五六七][）)])?"
_WORDS = (
    rf"{_NUMBER}(?:[【\[]\s{{0,4}}(?:%s)\s{{0,4}}[】\]]\s{{0,4}}[:：]?"
    r"|(?:%s)\s{0,4}(?:[:：]|(?=\n%s)))"
)
_HEADING = re.compile(
    _START + _WORDS % (_BRACKETED, _PLAIN, "") + r"\s*",
    re.IGNORECASE,
)
# What would be taken for a heading inside a section is written with a backslash before it.
_ANY = "|".join(_SYNONYMS.values())
_GUARDED = re.compile(
    rf"({_START})(\\*)(?={_WORDS % (_ANY, _ANY, '|' + chr(92) + 'Z')})",
    re.IGNORECASE,
)


def parse_report(text: str) -> Report:
    """Split a report into its sections; text before any heading counts as findings.

    A heading that comes twice has its texts joined by a newline. Nothing is invented: a section
    that is not in the text is empty. The language is that of the first heading; without one, that
    of the text.
    """
    parts: dict[str, list[str]] = {section: [] for section in SECTIONS}
    for section, start, end in section_spans(text):
        body = _guard(text[start:end].strip(), add=False)
        if body:
            parts[section].append(body)
    heading = _HEADING.search(text)
    return Report(
        **{section: "\n".join(bodies) for section, bodies in parts.items()},
        language=detect_language(heading.group() if heading else text),
    )


def section_spans(text: str) -> list[tuple[str, int, int]]:
    """(section, start, end) of every section's body in the text, in the order of the text."""
    spans: list[tuple[str, int, int]] = []
    section, start = "findings", 0
    for match in _HEADING.finditer(text):
        if match.start() > start:
            spans.append((section, start, match.start()))
        section = str(match.lastgroup)[:-2]
        start = match.end()
    if start < len(text):
        spans.append((section, start, len(text)))
    return spans


def format_report(report: Report) -> str:
    """One line a section, each with its heading; empty sections are left out.

    `parse_report` gives the report back whatever its sections hold, but for blanks around them; a
    heading inside a section has a backslash before it.
    """
    headings = HEADINGS[report.language]
    colon = "：" if report.language == "zh" else ": "
    lines = ((section, getattr(report, section).strip()) for section in SECTIONS)
    return "\n".join(
        f"{headings[section]}{colon}{_guard(body, add=True)}" for section, body in lines if body
    )


def _guard(body: str, *, add: bool) -> str:
    """The body with a backslash more, or one less, before each heading in it."""
    places = sorted({match.span(2) for match in _GUARDED.finditer(body)}, reverse=True)
    done = len(body) + 1
    for start, end in places:
        if end != done:  # two starts may lead to one heading
            body = (
                body[:start] + ("\\" if add else "") + body[start if add else min(start + 1, end) :]
            )
        done = end
    return body
