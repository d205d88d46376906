from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.phantom.text import write_report
from ctscribe.reports.language import SLOTS, slot_phrase, slots_of
from ctscribe.training import report_corpus
from ctscribe.training.report_corpus import (
    HELD_OUT,
    LANGUAGES,
    SEED_SPACE,
    PhraseBook,
    Sample,
    save_tokenizer,
    train_tokenizer,
    write_samples,
)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return write_samples(900, seed=5, workers=1)


@pytest.fixture(scope="module")
def tokenizer(samples: list[Sample]) -> Any:
    return train_tokenizer(s.answer for s in samples)


def test_samples_depend_on_seed_and_stream_but_not_on_workers(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_corpus, "_PER_TASK", 2_000)
    assert write_samples(30, seed=5, workers=1) == samples[:30]
    answers = {s.answer for s in samples if s.findings}
    assert not answers & {s.answer for s in write_samples(60, seed=6, workers=1) if s.findings}
    held_out = write_samples(60, seed=5, stream=HELD_OUT, workers=1)
    assert not answers & {s.answer for s in held_out if s.findings}
    with pytest.raises(ValueError, match="seed must be in"):
        write_samples(1, seed=SEED_SPACE)


def test_several_processes_write_the_same() -> None:
    two = write_samples(4_010, seed=5, workers=2)
    assert two == write_samples(4_010, seed=5, workers=1)


def test_one_language_alone() -> None:
    samples = write_samples(2_010, seed=5, workers=1, languages=("en",))
    assert len(samples) == 2_010
    assert {s.language for s in samples} == {"en"}


def test_findings_keep_the_phantoms_rules_and_cover_every_kind(samples: list[Sample]) -> None:
    kinds = set()
    for sample in samples:
        places = [(f.name, f.place) for f in sample.findings]
        assert len(places) == len(set(places))
        air = {f.side for f in sample.findings if f.name == "pneumothorax"}
        assert not air & {f.side for f in sample.findings if f.name == "effusion"}
        kinds |= {(f.name, f.density or f.amount) for f in sample.findings}
    assert len(kinds) == 4 + 1 + 1 + 3 + 3
    empty = sum(not s.findings for s in samples) / len(samples)
    assert 0.08 < empty < 0.3
    assert {s.language for s in samples} == set(LANGUAGES)


def test_phrases_state_the_slots_and_neighbours_differ_in_size_alone(samples: list[Sample]) -> None:
    book = PhraseBook()
    for sample in samples[:100]:
        wanted = [
            slot_phrase(name, place, finding, sample.language)
            for (name, place), finding in zip(SLOTS, slots_of(sample.findings), strict=True)
        ]
        assert [book.phrases[i] for i in sample.phrases] == wanted
        language = LANGUAGES.index(sample.language)
        for slot, row in enumerate(sample.phrases):
            first = book.start[language, slot]
            assert first <= row < first + book.count[language, slot]
    row = book.phrases.index("右肺上叶 实性 结节 14 mm")
    assert book.phrases[book.low[row]] == "右肺上叶 实性 结节 3 mm"
    assert book.phrases[book.high[row]] == "右肺上叶 实性 结节 36 mm"


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_what_must_be_right_is_one_token_wherever_it_stands(
    tokenizer: Any, samples: list[Sample]
) -> None:
    def pieces(text: str) -> list[str]:
        return [
            tokenizer.decode([i]) for i in tokenizer(text, add_special_tokens=False)["input_ids"]
        ]

    for n in range(1, 61):
        assert pieces(f"{n}") == [f"{n}"]
    assert pieces("1.4cm") == ["1.4", "cm"]
    assert "右肺上叶" in pieces("于右肺上叶见实性结节")
    assert "右下肺" in pieces("左上肺及右下肺实变")
    assert pieces("14×11mm")[:3] == ["14", "×", "11"]
    assert {" right", " upper", " lobe"} <= set(pieces("A nodule in the right upper lobe."))
    assert not any(b < 258 for s in samples[:50] for b in tokenizer(s.answer)["input_ids"])
    assert len(tokenizer) <= 2048


def test_a_saved_tokenizer_is_loaded_the_same(
    tokenizer: Any, samples: list[Sample], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    save_tokenizer(tokenizer, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    loaded = AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
    assert loaded.eos_token_id == tokenizer.eos_token_id
    assert loaded.pad_token_id == tokenizer.pad_token_id
    for sample in samples[:40]:
        ids = loaded(sample.answer)["input_ids"]
        assert ids == tokenizer(sample.answer)["input_ids"]
        assert loaded.decode(ids) == sample.answer


def test_reports_come_from_the_phantoms_own_writer(samples: list[Sample]) -> None:
    assert write_report is report_corpus.write_report
    assert all(s.answer for s in samples)
