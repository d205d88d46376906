from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.reports.labeller import extract, label_report, mentions
from ctscribe.reports.schema import (
    AMOUNTS,
    DENSITIES,
    FINDINGS,
    LOBAR,
    LOBES,
    SIDES,
    Finding,
    side_of,
)
from ctscribe.reports.scoring import keys_of
from ctscribe.reports.statements import statements

SENTENCES = json.loads((Path(__file__).parent / "sentences.json").read_text(encoding="utf-8"))


def finding_of(words: str) -> Finding:
    """ "nodule RUL solid 14" as a Finding."""
    name, *rest = words.split()
    place = rest.pop(0) if rest and rest[0] in (*LOBES, *SIDES) else None
    return Finding(
        name,  # type: ignore[arg-type]
        side=place if place in SIDES else side_of(place) if place else None,  # type: ignore[arg-type]
        lobe=place if place in LOBES else None,  # type: ignore[arg-type]
        size_mm=next((float(word) for word in rest if word.replace(".", "").isdigit()), None),
        density=next((word for word in rest if word in DENSITIES), None),  # type: ignore[arg-type]
        amount=next((word for word in rest if word in AMOUNTS), None),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("language", ["zh", "en"])
def test_hand_labelled_sentences_are_read_right(language: str) -> None:
    # Strictest match: name, place, size, density and amount all as labelled.
    rows = [row for row in SENTENCES if row["language"] == language and "findings" in row]
    assert len(rows) >= 60
    hits = predicted = labelled = 0
    misread = []
    for row in rows:
        got = Counter(extract(row["text"]))
        want = Counter(map(finding_of, row["findings"]))
        hits += (got & want).total()
        predicted, labelled = predicted + got.total(), labelled + want.total()
        if got != want:
            misread.append((row["text"], list(got)))
    assert 2 * hits / (predicted + labelled) >= 0.97, misread
    assert misread == []  # a sentence that is read today stays read


def test_sentences_hold_enough_denials() -> None:
    assert len(SENTENCES) >= 120
    assert sum(row.get("findings") == [] for row in SENTENCES) >= 40


def test_what_training_asserts_is_what_the_sentence_says() -> None:
    # Every label asserted, and nothing else: advice, history and what is gone are in the set too.
    apart = []
    for row in SENTENCES:
        said = [key for label in row["says"] for key in keys_of(label)]
        stated = {
            (name, lobe if name in LOBAR and lobe else side)
            for name, negated, _, side, lobe, *_ in said
            if name in FINDINGS and not negated
        }
        read = {(f.name, f.lobe or f.side) for f in extract(row["text"])}
        # A lung beside its own lobe is merged into it.
        if not read <= stated or {name for name, _ in read} != {name for name, _ in stated}:
            apart.append((row["text"], read ^ stated))
    assert apart == []


@pytest.mark.parametrize(
    "text",
    [
        "原有左肺下叶结节，现未见显示。",
        "原左肺下叶结节本次未见显示。",
        "上次所见左下肺结节，本次未见显示。",
        "2023-05-11片示左肺上叶结节，本次未见显示。",
        "外院CT示右肺中叶实变，本次检查已吸收。",
        "前片所见左肺上叶实变影，现基本吸收，残留少许索条影。",
        "左侧胸腔积液吸收，左肺下叶复张良好。",
        "Prior CT showed a right lower lobe nodule, which is not seen today.",
        "Previously described left pleural effusion is not seen on the current study.",
        "The nodule previously noted in the lingula is not identified today.",
        "Resolved left pleural effusion.",
        "The previously seen left pneumothorax has been absorbed.",
    ],
)
def test_what_was_there_and_is_gone_trains_nothing(text: str) -> None:
    assert extract(text) == ()
    gone = [s for s in statements(text) if s.finding in FINDINGS]
    assert {(s.negated, s.comparison) for s in gone} == {(True, "resolved")}


def test_nothing_wider_reaches_the_five() -> None:
    text = (
        "心包少量积液。甲状腺右叶结节。右肺中叶支气管扩张。纵隔淋巴结肿大。左侧胸膜增厚。肝囊肿。"
    )
    assert {s.finding for s in statements(text)} >= {"pericardial-effusion", "thyroid-nodule"}
    assert extract(text) == ()


def test_sections_are_labelled_apart_and_recommendations_not_at_all() -> None:
    labels = label_report(
        "所见：右肺上叶见实性结节，约14mm。未见气胸。\n结论：右肺上叶结节。\n"
        "建议：如左侧气胸，及时就诊；左肺下叶实变复查。\n病理倾向：左肺上叶结节恶性可能。"
    )
    assert labels.findings == (Finding("nodule", "right", "RUL", 14.0, "solid"),)
    assert labels.impression == (Finding("nodule", "right", "RUL"),)
    assert labels.contradictions == 0


@pytest.mark.parametrize(
    ("text", "contradictions"),
    [
        ("所见：右肺下叶实变。结论：右肺上叶实变。", 1),
        ("所见：右肺上叶实性结节，约14mm。结论：右肺上叶磨玻璃结节。", 1),
        ("所见：右肺上叶结节，约14mm。结论：右肺上叶结节，约24mm。", 1),
        ("所见：右肺上叶结节，约14mm。结论：右肺上叶结节，约1.5cm。", 0),
        ("所见：右侧少量胸腔积液。未见胸腔积液。结论：右侧胸腔积液。", 1),
        ("所见：右侧胸腔积液。左侧胸腔未见积液。结论：右侧胸腔积液。", 0),
        ("所见：右肺下叶实变。结论：胸部CT未见明显异常。", 1),
        ("所见：右肺下叶实变，余肺未见异常。结论：右肺下叶实变。", 0),
        ("所见：右肺下叶实变，余肺未见实变。", 0),
        ("所见：右肺下叶实变，右侧胸腔积液。结论：右肺下叶实变。", 0),
        ("Findings: Right lower lobe consolidation. Impression: Normal chest CT.", 1),
        ("Findings: Small left effusion. The lungs are clear. Impression: Left effusion.", 0),
    ],
)
def test_contradictions_are_counted(text: str, contradictions: int) -> None:
    assert label_report(text).contradictions == contradictions


def test_mentions_point_at_their_words() -> None:
    text = "所见：双肺未见实变。1.左下肺磨玻璃结节，约9mm；右侧少量积液。\n结论：左肺下叶结节。"
    words = [(text[m.start : m.end], m.negated, m.section) for m in mentions(text)]
    assert words == [
        ("双肺未见实变", True, "findings"),
        ("双肺未见实变", True, "findings"),
        ("左下肺磨玻璃结节，约9mm", False, "findings"),
        ("右侧少量积液", False, "findings"),
        ("左肺下叶结节", False, "impression"),
    ]


def test_a_whole_report_states_each_finding_once() -> None:
    text = "Findings: 14 mm solid nodule in the RUL. Impression: RUL nodule, 15 mm. Left effusion."
    assert extract(text) == (
        Finding("nodule", "right", "RUL", 14.0, "solid"),
        Finding("effusion", "left"),
    )


FRAGMENTS = [row["text"] for row in SENTENCES]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([*"，。；、及无未见右左肺叶上下结节实变14mm×.( )\n", *FRAGMENTS])))
def test_any_text_is_read_without_an_error(pieces: list[str]) -> None:
    text = "".join(pieces)
    for mention in mentions(text):
        assert 0 <= mention.start < mention.end <= len(text)
    label_report(text)
