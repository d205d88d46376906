"""Reports of phantom studies: many ways to say the same findings, none that says anything else.

Every report can be read back: `reports.labeller` finds exactly the given findings in the findings
section, and the same places, nodule densities and nodule sizes in the impression. Sentences about
what was not drawn (heart, bones, airway) are always normal, and no word describes what the truth
does not hold (a nodule's margin, say), so that a model that learns from them never learns to guess.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctscribe.phantom import text_en, text_zh
from ctscribe.phantom.wording import Picker, arrange
from ctscribe.reports.schema import Finding, Language, Report

_WRITERS = {"zh": text_zh, "en": text_en}


def write_report(
    findings: Sequence[Finding], language: Language, rng: np.random.Generator
) -> Report:
    """One report of these findings, in one of many wordings drawn from `rng`.

    findings: each with a place; a nodule's density and size, a consolidation's size and an
    effusion's or pneumothorax's amount are stated where given. The same findings and generator
    state give the same report.
    """
    writer, pick = _WRITERS[language], Picker(rng)
    ordered = arrange(findings, pick)
    by_weight = arrange(findings, pick, by_weight=True)
    return Report(
        findings=writer.findings_section(ordered, pick),
        impression=writer.impression_section(by_weight, pick),
        recommendation=writer.recommendation_section(by_weight, pick),
        pathology=writer.pathology_section(by_weight, pick),
        language=language,
    )
