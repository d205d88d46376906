from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ctscribe.errors import TrainingError
from ctscribe.generation.decode import generate
from ctscribe.model.head_loss import IGNORED
from ctscribe.model.llm import LLM, load_llm
from ctscribe.reports.language import SLOTS
from ctscribe.reports.schema import Finding
from ctscribe.training import pretrain_llm as module
from ctscribe.training.pretrain_llm import (
    PREFIX_ROWS,
    Blur,
    Corpus,
    Prefixes,
    PretrainLLM,
    extra_rows,
    new_mamba,
    pretrain_llm,
)
from ctscribe.training.report_corpus import LANGUAGES, PhraseBook, train_tokenizer, write_samples

TINY = PretrainLLM(
    steps=30,
    batch_size=16,
    device="cpu",
    d_model=32,
    n_layer=1,
    vocab_size=800,
    reports=400,
    lr=1e-2,
    eval_reports=1,
    workers=1,
)


def write(llm: LLM, embeds: torch.Tensor, mask: torch.Tensor, most: int) -> list[str]:
    return [g.text for g in generate(llm, embeds, mask, max_new_tokens=min(most, 12))]


@pytest.fixture(scope="module")
def llm() -> LLM:
    torch.manual_seed(0)
    tokenizer = train_tokenizer([s.answer for s in write_samples(60, seed=3, workers=1)], 700)
    return LLM(new_mamba(TINY, tokenizer), tokenizer)


def test_a_short_run_learns_is_repeatable_and_loads_as_any_llm(tmp_path: Path) -> None:
    records = []
    for name in ("a", "b"):
        figures = pretrain_llm(tmp_path / name, TINY, write=write, log=lambda line: None)
        records.append(json.loads((tmp_path / name / "pretraining.json").read_text("utf-8")))
    losses = [row["loss"] for row in records[0]["losses"]]
    assert losses == [row["loss"] for row in records[1]["losses"]]
    assert losses[-1] < losses[0] - 2
    assert losses[-1] < 5
    assert set(figures) == {"zh", "en", "training"}
    assert records[0]["text_seeds"] >= 1_000_000_000
    llm = load_llm(tmp_path / "a")
    assert llm.path_name.startswith("ctscribe: ")
    assert llm.width == 32
    assert llm.unused_ids().sum() == len(llm.unused_ids()) - len(llm.tokenizer)


def test_clean_prefix_is_what_phrase_embeddings_says_and_no_blur_is_clean(llm: LLM) -> None:
    book = PhraseBook()
    samples = write_samples(6, seed=1, workers=1)
    phrases = torch.tensor([s.phrases for s in samples])
    language = torch.tensor([LANGUAGES.index(s.language) for s in samples])
    clean = Prefixes(llm, book).clean(phrases)
    assert clean.shape == (6, PREFIX_ROWS, llm.width)
    for b, sample in enumerate(samples):
        wanted = llm.phrase_embeddings([book.phrases[i] for i in sample.phrases])
        torch.testing.assert_close(clean[b, :-1], wanted)
    still = Prefixes(llm, book, Blur(0, 0, 0, 0, 0)).blurred(phrases, language)
    torch.testing.assert_close(still[:, :-1], clean[:, :-1])


def test_rows_beyond_the_slots_hold_anything(llm: LLM) -> None:
    torch.manual_seed(0)
    phrases = torch.tensor([s.phrases for s in write_samples(6, seed=1, workers=1)])
    prefixes = Prefixes(llm, PhraseBook(), Blur(0, 0, 0, 0, 0))
    rows = prefixes.blurred(phrases, torch.zeros(6, dtype=torch.long), extra=9)
    assert rows.shape == (6, PREFIX_ROWS + 8, llm.width)
    torch.testing.assert_close(rows[:, : len(SLOTS)], prefixes.clean(phrases)[:, :-1])
    beyond = rows[:, len(SLOTS) :].flatten(0, 1)
    assert not (torch.cdist(beyond, beyond) + torch.eye(len(beyond)) < 1e-3).any()


def test_rows_beyond_the_slots_are_few_or_many() -> None:
    generator = torch.Generator().manual_seed(0)
    assert {extra_rows(1, step, generator) for step in range(20)} == {1}
    drawn = [extra_rows(900, step, generator) for step in range(2000)]
    assert set(drawn[::2]) == {1}
    assert 1 <= min(drawn) < max(drawn) <= 900
    assert 0.45 < sum(n > 30 for n in drawn[1::2]) / 1000 < 0.55


def test_blur_never_hides_what_is_there(llm: LLM) -> None:
    """Only slots that state nothing may be missing."""
    torch.manual_seed(0)
    book = PhraseBook()
    samples = write_samples(200, seed=1, workers=1)
    phrases = torch.tensor([s.phrases for s in samples])
    language = torch.tensor([LANGUAGES.index(s.language) for s in samples])
    blurred = Prefixes(llm, book, Blur(noise=0, faint=0)).blurred(phrases, language)[:, :-1]
    denied = phrases == torch.from_numpy(book.start)[language]
    zero = (blurred == 0).all(-1)
    assert not (zero & ~denied).any()
    assert 0.01 < zero[denied].float().mean() < 0.2


def test_what_is_missing_does_not_blow_up_the_gradient_of_a_deep_model() -> None:
    """A row of zeros stays zero through all layers: each norm multiplies its gradient by 300."""
    torch.manual_seed(0)
    samples = write_samples(16, seed=3, workers=1)
    tokenizer = train_tokenizer([s.answer for s in samples], 700)
    deep = replace(TINY, d_model=64, n_layer=20)
    llm = LLM(new_mamba(deep, tokenizer), tokenizer)
    corpus = Corpus.of(samples, llm, "cpu")
    for faint, blows_up in ((0.0, True), (Blur.faint, False)):
        prefixes = Prefixes(llm, PhraseBook(), Blur(dropped=1.0, faint=faint))
        rows = prefixes.blurred(corpus.phrases, corpus.language).detach().requires_grad_()
        ids = corpus.ids[:, :40].long()
        embeds = torch.cat([rows, llm.embed(ids)], 1)
        labels = torch.nn.functional.pad(ids, (PREFIX_ROWS, 0), value=IGNORED)
        mask = torch.ones(embeds.shape[:2], dtype=torch.long)
        llm.forward_embeds(embeds, mask, labels).backward()
        assert rows.grad is not None
        size = rows.grad.norm(dim=-1).flatten()
        assert (float(size.max() / size.median()) > 1000) == blows_up


def test_a_gradient_that_is_not_finite_ends_training_and_nothing_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = module._loss
    seen = []

    def spoilt(*arguments: Any) -> torch.Tensor:
        seen.append(1)
        return whole(*arguments) * (torch.inf if len(seen) == 3 else 1.0)

    monkeypatch.setattr(module, "_loss", spoilt)
    with pytest.raises(TrainingError, match=r"the gradient became (nan|inf).*learning rate"):
        pretrain_llm(tmp_path / "out", TINY, write=write, log=lambda line: None)
    assert len(seen) == 3
    assert not (tmp_path / "out").exists()


def test_loss_is_of_question_and_answer_as_the_vlm_lays_them_out(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = write_samples(4, seed=2, workers=1)
    corpus = Corpus.of(samples, llm, "cpu")
    prefixes = Prefixes(llm, PhraseBook(), Blur(0, 0, 0, 0, 0))
    monkeypatch.setattr(prefixes, "blurred", lambda phrases, *_: prefixes.clean(phrases))
    loss = module._loss(llm, prefixes, corpus, torch.arange(4))
    total, count = torch.zeros(()), 0
    for sample in samples:
        question, answer = llm.prompt_ids(sample.question), llm.answer_ids(sample.answer)
        ids = torch.tensor([[*question, *answer]])
        embeds = torch.cat([prefixes.clean(torch.tensor([sample.phrases])), llm.embed(ids)], 1)
        labels = torch.tensor([[IGNORED] * (PREFIX_ROWS + len(question)) + answer])
        one = llm.forward_embeds(embeds, torch.ones_like(labels), labels)
        total, count = total + one * len(answer), count + len(answer)
    torch.testing.assert_close(loss, total / count)


def test_batches_hold_every_sample_once_and_similar_lengths(llm: LLM) -> None:
    corpus = Corpus.of(write_samples(64, seed=2, workers=1), llm, "cpu")
    stream = corpus.batches(8, torch.Generator().manual_seed(0))
    first = [next(stream) for _ in range(8)]
    assert sorted(torch.cat(first).tolist()) == list(range(64))
    spread = [int(corpus.length[b].max() - corpus.length[b].min()) for b in first]
    assert sum(spread) / 8 < int(corpus.length.max() - corpus.length.min()) / 2


def test_score_counts_places_sizes_and_contradictions() -> None:
    truth = [
        (Finding("nodule", "right", "RUL", 14.0, "solid"),),
        (Finding("effusion", "left", amount="small"),),
    ]
    right = [
        "所见：右肺上叶见实性结节，约14mm。\n结论：右肺上叶实性结节。",
        "所见：左侧少量胸腔积液。\n结论：左侧少量胸腔积液。",
    ]
    figures: dict[str, Any] = module._score(right, truth)
    assert figures["strict_f1_findings"] == figures["strict_f1_impression"] == 1
    assert figures["size_accuracy"] == figures["density_accuracy"] == figures["wholly_right"] == 1
    wrong = ["所见：右肺上叶见钙化结节，约9mm。\n结论：右肺下叶钙化结节。", ""]
    figures = module._score(wrong, truth)
    assert figures["strict_f1_findings"] == pytest.approx(2 / 3, abs=1e-3)
    assert figures["strict_f1_impression"] == 0
    assert figures["size_accuracy"] == figures["density_accuracy"] == 0
    assert figures["empty"] == 1
    assert figures["contradictions"] >= 1
