from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.phantom.text import write_report
from ctscribe.reports.labeller import label_report
from ctscribe.reports.normalise import normalise
from ctscribe.reports.schema import Finding, Language, Statement
from ctscribe.reports.sections import format_report
from ctscribe.reports.statements import statements

SENTENCES = json.loads((Path(__file__).parent / "sentences.json").read_text(encoding="utf-8"))
TEXTS = [row["text"] for row in SENTENCES]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("右肺结节，约1.2cm。", "右肺结节，约12mm。"),
        ("右肺结节,约1.2×0.8cm.", "右肺结节，约12×8mm。"),
        ("右肺结节（1.2cm*0.8 厘米）", "右肺结节（12×8mm）"),
        ("右肺结节(８×６㎜);左肺清晰", "右肺结节（8×6mm）；左肺清晰"),
        ("右肺结节约0.7公分，前次6公厘", "右肺结节约7mm，前次6mm"),
        ("右肺结节约3～5 mm", "右肺结节约3-5mm"),
        ("右肺结节约0.3cm~5mm", "右肺结节约3-5mm"),
        ("A 1.2 cm x 8 mm nodule，stable。", "A 12 × 8 mm nodule, stable."),
        ("A 5-mm nodule, 1.2 by 0.9 cm overall", "A 5 mm nodule, 12 × 9 mm overall"),
        ("from 0.9 cm to 1.4 cm", "from 9 mm to 14 mm"),
        ("层厚0.125cm", "层厚1.25mm"),
        ("结节1.20cm", "结节12mm"),
        # Left alone.
        ("面积1.5cm²，体积12cm3，约20ml，CT值-600HU", "面积1.5cm²，体积12cm3，约20ml，CT值-600HU"),
        ("结节1,2cm", "结节1,2cm"),
        ("1.右肺结节；2、左肺实变", "1.右肺结节；2、左肺实变"),
        ("1)右肺结节", "1)右肺结节"),
        ("检查时间10:30，比例1:2", "检查时间10:30，比例1:2"),
        ("", ""),
    ],
)
def test_one_spelling(text: str, want: str) -> None:
    assert normalise(text) == want


PIECES = [
    *"，。；、,.;:()（）１２.mc 0123456789×xX*~～-\n\t㎜!?：右肺a",
    "cm",
    "mm",
    "厘米",
    " by ",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from([*PIECES, *TEXTS])).map("".join) | st.text())
def test_twice_is_once(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


@given(
    st.lists(
        st.tuples(
            st.decimals(0, 999, places=3, allow_nan=False), st.sampled_from(["mm", "cm", "厘米"])
        ),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(["×", "*", " x ", "X"]),
    st.sampled_from(["右肺结节，约{}。", "A nodule, {}, stable."]),
)
def test_no_value_is_changed(axes: list[tuple[Decimal, str]], times: str, around: str) -> None:
    text = normalise(around.format(times.join(f"{number}{unit}" for number, unit in axes)))
    size = re.search(r"[\d.]+(?: ?× ?[\d.]+)* ?mm", text)
    assert size is not None
    read = [Decimal(number) for number in re.findall(r"\d+(?:\.\d+)?", size.group())]
    assert read == [number * (1 if unit == "mm" else 10) for number, unit in axes]
    assert "cm" not in text
    assert "厘" not in text


def said(text: str) -> list[Statement]:
    return [replace(statement, start=0, end=0) for statement in statements(text)]


def test_the_sentences_say_the_same_before_and_after() -> None:
    rough = str.maketrans("，；（）×0123456789", ",;()*０１２３４５６７８９")
    for text in TEXTS:
        assert said(normalise(text)) == said(text), text
        if re.search("[\u4e00-\u9fff]", text):
            assert said(normalise(text.translate(rough))) == said(text), text
    assert sum(normalise(text) != text for text in TEXTS) > 40  # or nothing was put to the test


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["zh", "en"]), st.integers(0, 2**32 - 1))
def test_phantom_reports_say_the_same_before_and_after(language: Language, seed: int) -> None:
    findings = [
        Finding("nodule", "right", "RUL", 14.0, "solid"),
        Finding("consolidation", "left", "LLL"),
        Finding("effusion", "left", amount="small"),
    ]
    text = format_report(write_report(findings, language, np.random.default_rng(seed)))
    assert said(normalise(text)) == said(text)
    assert label_report(normalise(text)) == label_report(text)


@pytest.mark.parametrize("piece", ["1×", "1 ", "(", " ", "\n ", "，", "1cm", "."])
def test_a_long_text_takes_no_longer_than_it_is_long(piece: str) -> None:
    begun = time.process_time()
    normalise(piece * (100_000 // len(piece)))
    assert time.process_time() - begun < 5
