from __future__ import annotations

from ctscribe.reports.audit import Claim, audit, omitted
from ctscribe.reports.schema import Finding

NODULE = Finding("nodule", "right", "RUL", 14, "solid")
EFFUSION = Finding("effusion", "left", amount="small")


def marks(text: str, claims: list[Claim]) -> list[tuple[str, str]]:
    return [(text[claim.start : claim.end], claim.status) for claim in claims]


def test_each_status_marks_its_own_words() -> None:
    text = (
        "所见：右肺上叶见实性结节，约14mm。左肺下叶实变。右侧少量胸腔积液。未见气胸。\n"
        "结论：右肺上叶结节；右肺下叶肺气肿。"
    )
    assert marks(text, audit(text, [NODULE, EFFUSION])) == [
        ("右肺上叶见实性结节，约14mm", "right"),
        ("左肺下叶实变", "wrong"),
        ("右侧少量胸腔积液", "wrong-place"),
        ("右肺上叶结节", "right"),
        ("右肺下叶肺气肿", "contradiction"),
    ]
    assert omitted(text, [NODULE, EFFUSION]) == (EFFUSION,)


def test_a_false_denial_is_wrong_and_a_true_one_is_not_marked() -> None:
    text = "No pleural effusion. No pneumothorax. No consolidation."
    claims = audit(text, [EFFUSION])
    assert marks(text, claims) == [("pleural effusion", "wrong")]
    assert claims[0].negated


def test_a_normal_statement_over_a_finding_is_wrong() -> None:
    text = "结论：胸部CT平扫未见明显异常。"
    (claim,) = audit(text, [NODULE, EFFUSION])
    assert claim.status == "wrong"
    assert {finding.name for finding in claim.findings} == {"nodule", "effusion"}


def test_a_right_claim_names_what_is_off() -> None:
    (claim,) = audit("右肺上叶磨玻璃结节，约22mm。", [NODULE])
    assert claim.status == "right"
    assert claim.note == "density: ground-glass, truth solid; size: 22 mm, truth 14 mm"


def test_words_that_state_two_findings_are_one_claim_with_the_worse_status() -> None:
    text = "双侧少量胸腔积液。"
    (claim,) = audit(text, [EFFUSION])
    assert (claim.status, len(claim.findings)) == ("wrong-place", 2)
    assert text[claim.start : claim.end] == "双侧少量胸腔积液"


def test_an_empty_report_omits_everything() -> None:
    assert audit("", [NODULE]) == []
    assert omitted("", [NODULE]) == (NODULE,)
