"""What the pages are filled with: real labeller and audit in, marks and tables out."""

from __future__ import annotations

import math

from ctscribe.evaluation import cards
from ctscribe.evaluation.clinical import Estimate, score
from ctscribe.reports.schema import Finding
from tests.evaluation import fake_pages as fake
from tests.evaluation.fake_pages import GENERATED, RLL, RUL

RML = Finding("consolidation", "right", "RML")
TRUTH = (RUL, RLL, RML)


def test_case_card_marks_what_is_wrong_where_it_is_wrong() -> None:
    support = {("nodule", "RUL"): 0.98, ("effusion", "left"): 0.07}
    card = cards.case_card(
        "c1",
        language="zh",
        images=(),
        reference=fake.REFERENCE,
        generated=GENERATED,
        truth=TRUTH,
        support=support,
    )
    found = [(GENERATED[m.start : m.end], m.status) for m in card.marks]
    assert [status for text, status in found if "右肺上叶" in text] == ["right", "right"]
    assert [status for text, status in found if "左肺下叶" in text] == ["wrong-place"]
    assert [s for text, s in found if "胸腔积液" in text] in (["wrong"], ["contradiction"])
    assert card.omitted == (RML,)
    notes = [m.note.en for m in card.marks if m.status == "wrong-place"]
    assert "right lower lobe ground-glass nodule 9 mm" in notes[0]
    assert [(r.truth, r.head) for r in card.table] == [
        (RUL, 0.98),
        (RLL, None),
        (RML, None),
        (None, 0.07),
    ]
    assert card.table[0].findings is not None
    assert card.table[0].findings.place == "RUL"
    assert card.table[3].impression is not None
    assert card.table[3].impression.name == "effusion"


def test_a_right_claim_with_a_wrong_size_says_so_in_both_languages() -> None:
    text = "所见：右肺上叶见实性结节，直径约25mm。"
    card = cards.case_card(
        "c", language="zh", images=(), reference="x", generated=text, truth=(RUL,)
    )
    (mark,) = card.marks
    assert mark.status == "right"
    assert "25 mm" in mark.note.en
    assert "真值 14 mm" in mark.note.zh
    assert "truth" not in mark.note.zh


def test_pairing_is_one_to_one_and_prefers_the_place() -> None:
    said = (Finding("nodule", "left", "LUL", 30), Finding("nodule", "right", "RUL", 10))
    first, second = cards.pair_findings((RLL, RUL), said, ())
    assert (first.findings, second.findings) == said  # though the sizes fit the other way round
    rows = cards.pair_findings((), said[:1], said)
    assert [(r.findings, r.impression) for r in rows] == [(said[0], said[0]), (None, said[1])]


def test_claims_without_truth_are_set_against_heads_and_the_report_itself() -> None:
    support = {("nodule", "RUL"): 0.97, ("nodule", "LLL"): 0.11, ("nodule", "RLL"): 0.6}
    marks, claims = cards.claims_without_truth(GENERATED, "zh", support)
    by_text = {GENERATED[m.start : m.end]: m.status for m in marks}
    assert next(s for t, s in by_text.items() if "右肺上叶" in t) == "stated"
    assert next(s for t, s in by_text.items() if "左肺下叶" in t) == "unsupported"
    assert next(s for t, s in by_text.items() if t.startswith("右肺下叶")) == "contradiction"
    assert not any("心影" in t for t in by_text)
    upper = next(c for c in claims if c.finding.place == "RUL")
    assert (upper.in_findings, upper.in_impression, upper.support) == (True, True, 0.97)
    assert upper.agrees is True
    effusion = next(c for c in claims if c.finding.name == "effusion")
    assert (effusion.support, effusion.agrees) == (None, None)  # the heads were not asked
    assert not any(m.status in ("right", "wrong") for m in marks)


def test_score_rows_lead_with_strict_f1_and_keep_to_known_metrics() -> None:
    model = score([((RUL, RLL), TRUTH)], n_boot=20)
    blank = score([((), TRUTH)], n_boot=20)
    model["bleu"] = Estimate(40.0, math.nan, math.nan)
    rows = cards.score_rows({"model": model, "blank": blank}, {"strict_f1": 0.8})
    assert rows[0].metric == "strict_f1"
    assert rows[0].values["model"] == model["strict_f1"]
    assert rows[0].target is not None
    metrics = [row.metric for row in rows]
    assert {"nodule_f1", "size_error_mm", "hallucinated_strict_share", "strict_f1_nodule"} <= set(
        metrics
    )
    assert metrics[-1] == "bleu"
    assert rows[-1].values["blank"] is None
