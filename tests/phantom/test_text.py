from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.phantom.text import write_report
from ctscribe.reports.labeller import extract, label_report
from ctscribe.reports.language import SLOTS
from ctscribe.reports.schema import (
    AMOUNTS,
    DENSITIES,
    LOBAR,
    Finding,
    Language,
    Lobe,
    Side,
    side_of,
)
from ctscribe.reports.sections import format_report, parse_report


@st.composite
def finding_lists(draw: st.DrawFn) -> list[Finding]:
    findings = []
    for name, place in draw(st.lists(st.sampled_from(SLOTS), unique=True, max_size=9)):
        size = draw(st.integers(3, 45))
        if name in LOBAR:
            lobe: Lobe = place  # type: ignore[assignment]
            density = draw(st.sampled_from(DENSITIES)) if name == "nodule" else None
            sized = name == "nodule" or (name == "consolidation" and draw(st.booleans()))
            size_mm = float(size) if sized else None
            findings.append(Finding(name, side_of(lobe), lobe, size_mm, density))
        else:
            side: Side = place  # type: ignore[assignment]
            findings.append(Finding(name, side, amount=draw(st.sampled_from(AMOUNTS))))
    return findings


def brief(finding: Finding) -> tuple[object, ...]:
    """What an impression states."""
    nodule = finding.name == "nodule"
    size = finding.size_mm if nodule else None
    return finding.name, finding.place, size, finding.density


@settings(max_examples=400, deadline=None)
@given(finding_lists(), st.sampled_from(["zh", "en"]), st.integers(0, 2**32 - 1))
def test_every_report_is_read_back_exactly(
    findings: list[Finding], language: Language, seed: int
) -> None:
    report = write_report(findings, language, np.random.default_rng(seed))
    text = format_report(report)
    labels = label_report(text)
    assert Counter(labels.findings) == Counter(findings)
    assert Counter(map(brief, labels.impression)) == Counter(map(brief, findings))
    assert labels.contradictions == 0
    assert Counter(extract(text)) == Counter(findings)
    assert parse_report(text) == report


@pytest.mark.parametrize("language", ["zh", "en"])
def test_wording_varies_and_the_seed_decides_it(language: Language) -> None:
    findings = [
        Finding("nodule", "right", "RUL", 14, "part-solid"),
        Finding("effusion", "left", amount="moderate"),
    ]
    texts = [
        format_report(write_report(findings, language, np.random.default_rng(seed)))
        for seed in range(200)
    ]
    assert len(set(texts)) > 190
    again = format_report(write_report(findings, language, np.random.default_rng(7)))
    assert again == texts[7]
    joined = "\n".join(texts)
    words = {
        "zh": ("右肺上叶", "右上肺", "部分实性", "混合磨玻璃", "14mm", "1.4cm", "14×", "中量"),
        "en": ("14 mm", "1.4 cm", "14 x", "part-solid", "mixed ground-glass", "left-sided"),
    }
    assert all(word in joined for word in words[language])


def test_chinese_reports_stay_short_enough_for_a_small_model() -> None:
    rng = np.random.default_rng(3)
    nodules = [Finding("nodule", "right", "RUL", 14, "solid"), Finding("nodule", "left", "LLL", 9)]
    usual = [[], nodules[:1], nodules, [*nodules, Finding("effusion", "left", amount="small")]]
    lengths = [len(format_report(write_report(f, "zh", rng))) for f in usual for _ in range(50)]
    assert min(lengths) >= 80
    assert max(lengths) <= 260


def test_follow_up_and_pathology_follow_the_worst_nodule() -> None:
    rng = np.random.default_rng(0)
    worst = [Finding("nodule", "right", "RUL", 28, "solid")]
    mild = [Finding("nodule", "right", "RUL", 8, "calcified")]
    for _ in range(20):
        assert write_report(worst, "zh", rng).pathology in (
            "恶性可能性大。",
            "倾向恶性，周围型肺癌可能。",
        )
        assert "良性" in write_report(mild, "zh", rng).pathology
        assert write_report([], "zh", rng).pathology == ""
