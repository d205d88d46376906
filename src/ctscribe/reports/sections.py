"""Sections of a report: 所见 / 结论 / 建议 / 病理倾向, or Findings / Impression / and so on.

Reading is tolerant (【所见】, "所见:" or "所见：", any order, headings alone on a line or after the
end of a sentence); writing has one form.
"""

from __future__ import annotations

import re

from ctscribe.reports.language import detect_language
from ctscribe.reports.schema import Language, Report

SECTIONS = ("findings", "impression", "recommendation", "pathology")
HEADINGS: dict[Language, dict[str, str]] = {
    "zh": {
        "findings": "所见",
        "impression": "结论",
        "recommendation": "建议",
        "pathology": "病理倾向",
    },
    "en": {
        "findings": "Findings",
        "impression": "Impression",
        "recommendation": "Recommendation",
        "pathology": "Pathology tendency",
    },
}
# Other words that sheets use for the same sections.
_SYNONYMS: dict[str, str] = {
    "findings": r"(?:影像|检查|CT|放射)?学?(?:所见|表现|描述)|Findings?",
    "impression": r"(?:影像|检查|放射)?学?(?:结论|诊断|印象)(?:意见)?|Impressions?|Conclusions?",
    "recommendation": r"(?:处理|诊疗|随访)?建议|Recommendations?",
    "pathology": r"病理(?:倾向|考虑)|Patholog(?:y|ical) tendency|Pathology",
}
_BRACKETED = "|".join(f"(?P<{section}_b>{words})" for section, words in _SYNONYMS.items())
_PLAIN = "|".join(f"(?P<{section}_p>{words})" for section, words in _SYNONYMS.items())
# A heading starts the text, a line or a sentence, and ends with a colon, a bracket or the line.
_HEADING = re.compile(
    r"(?:^|(?<=[\n。；;.!?！？】\]])|(?<=[\n。；;.]\s))\s*"
    rf"(?:[【\[]\s*(?:{_BRACKETED})\s*[】\]]\s*[:：]?|(?:{_PLAIN})\s*(?:[:：]|(?=\n)))\s*",
    re.IGNORECASE,
)


def parse_report(text: str) -> Report:
    """Split a report into its sections; text before any heading counts as findings.

    A heading that comes twice has its texts joined by a newline. Nothing is invented: a section
    that is not in the text is empty.
    """
    parts: dict[str, list[str]] = {section: [] for section in SECTIONS}
    for section, start, end in section_spans(text):
        body = text[start:end].strip()
        if body:
            parts[section].append(body)
    return Report(
        **{section: "\n".join(bodies) for section, bodies in parts.items()},
        language=detect_language(text),
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
    """One line a section, each with its heading; empty sections are left out."""
    headings = HEADINGS[report.language]
    colon = "：" if report.language == "zh" else ": "
    lines = ((section, getattr(report, section)) for section in SECTIONS)
    return "\n".join(f"{headings[section]}{colon}{body}" for section, body in lines if body)
