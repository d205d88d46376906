"""Text to pretrain the demo's language model on: findings, their reports, and their slot phrases.

No images: findings are drawn, `phantom.text` writes their report, `reports.language` their phrases.
Everything is seeded, and the same whatever the number of workers.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ctscribe.phantom.text import write_report
from ctscribe.reports.language import QUESTIONS, SLOTS, slot_phrase, slots_of
from ctscribe.reports.schema import (
    AMOUNTS,
    DENSITIES,
    LOBES,
    SIDES,
    Finding,
    FindingName,
    Language,
    Lobe,
    Side,
    side_of,
)
from ctscribe.reports.sections import format_report

LANGUAGES: tuple[Language, ...] = ("zh", "en")
SEED_SPACE = 1_000_000_000  # seeds of pretraining start here; demo and test studies stay below
TRAIN, HELD_OUT = 0, 1  # streams of one seed that never meet
SIZES_MM = range(3, 37)
EOS, PAD = "<eos>", "<pad>"
_PER_TASK = 2_000
_PLACES = "[左右双两](?:肺[上中下]叶?|[上中下]肺叶?|侧|肺)"
_NODULES = (0.28, 0.34, 0.21, 0.11, 0.04, 0.02)  # probability of 0, 1, ... 5 nodules


class Sample(NamedTuple):
    """One report with its question, and the phrase of each slot (a row of `PhraseBook`)."""

    language: Language
    question: str
    answer: str
    phrases: tuple[int, ...]
    findings: tuple[Finding, ...]


class PhraseBook:
    """Every phrase a slot can hold, in both languages, numbered.

    start, count: (2, slots): the phrases of one language's slot, the first of which denies it.
    low, high: (phrases,): a nodule's phrases of the same density, in order of size; else itself.
    """

    def __init__(self) -> None:
        self.phrases: list[str] = []
        low: list[int] = []
        high: list[int] = []
        self._number: dict[tuple[Language, int, Finding | None], int] = {}
        starts, counts = [], []
        for language in LANGUAGES:
            for slot, (name, place) in enumerate(SLOTS):
                first = len(self.phrases)
                for run in _slot_contents(name, place):
                    begin = len(self.phrases)
                    for finding in run:
                        self._number[language, slot, finding] = len(self.phrases)
                        self.phrases.append(slot_phrase(name, place, finding, language))
                    low += [begin] * len(run)
                    high += [len(self.phrases) - 1] * len(run)
                starts.append(first)
                counts.append(len(self.phrases) - first)
        shape = (len(LANGUAGES), len(SLOTS))
        self.start, self.count = np.reshape(starts, shape), np.reshape(counts, shape)
        self.low, self.high = np.array(low), np.array(high)

    def rows(self, findings: Sequence[Finding], language: Language) -> tuple[int, ...]:
        """The phrase of each slot for these findings."""
        slots = enumerate(slots_of(findings))
        return tuple(self._number[language, slot, finding] for slot, finding in slots)


def draw_findings(rng: np.random.Generator) -> tuple[Finding, ...]:
    """Findings of one study: the phantoms' own kinds, and crowded combinations as well.

    At most one nodule and one consolidation a lobe; effusion and pneumothorax never on one side.
    """
    if rng.random() < 0.1:
        return ()
    found: list[Finding] = []
    number = int(rng.choice(len(_NODULES), p=_NODULES))
    for i in sorted(rng.permutation(len(LOBES))[:number]):
        size = rng.integers(4, 31) if rng.random() < 0.9 else rng.choice(SIZES_MM)
        density = DENSITIES[int(rng.integers(len(DENSITIES)))]
        found.append(_lobar("nodule", LOBES[i], size_mm=float(size), density=density))
    share = rng.choice((0.06, 0.25))
    found += [_lobar("consolidation", lobe) for lobe in LOBES if rng.random() < share]
    if rng.random() < 0.35:
        share = rng.choice((0.3, 0.7))
        found += [_lobar("emphysema", lobe) for lobe in LOBES if rng.random() < share]
    for side in SIDES:
        draw, amount = rng.random(), AMOUNTS[int(rng.integers(len(AMOUNTS)))]
        if draw < 0.28:
            name: FindingName = "effusion" if draw < 0.16 else "pneumothorax"
            found.append(Finding(name, side, amount=amount))
    return tuple(found)


def write_samples(
    count: int,
    *,
    seed: int,
    stream: int = TRAIN,
    workers: int | None = None,
    languages: tuple[Language, ...] = LANGUAGES,
) -> list[Sample]:
    """`count` samples, the languages in turn. workers: processes; left out, one a core.

    seed: below SEED_SPACE, which is added to it. stream: TRAIN or HELD_OUT.
    """
    if not 0 <= seed < SEED_SPACE:
        raise ValueError(f"seed must be in [0, {SEED_SPACE}), not {seed}")
    tasks = [
        (languages, (SEED_SPACE + seed, stream, i), min(_PER_TASK, count - i * _PER_TASK))
        for i in range(-(-count // _PER_TASK))
    ]
    workers = min(len(tasks), workers or os.cpu_count() or 1)
    if workers <= 1:
        return [sample for task in tasks for sample in _write_task(task)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return [sample for part in pool.map(_write_task, tasks) for sample in part]


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> Any:
    """A BPE tokenizer of reports; characters it has not seen become bytes, so any text comes back.

    Numbers ("14", "1.4"), the words of the slot phrases, runs of Chinese, Latin words and
    punctuation never share a token: what a report must get right is always cut the same way.
    Returns a transformers PreTrainedTokenizerFast with an end and a padding token.
    """
    import transformers
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    terms = {word for phrase in PhraseBook().phrases for word in phrase.split() if len(word) > 1}
    # Longer ones first; then by name, since the order of a set differs from run to run.
    chinese = sorted((t for t in terms if not t.isascii()), key=lambda t: (-len(t), t))
    rest = r"\d+(?:\.\d+)?|\p{Han}+| ?\p{Latin}+| ?[^\s\p{L}\p{N}]|\s+|."
    cut = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("|".join([*chinese, _PLACES])), behavior="isolated"),
            pre_tokenizers.Split(Regex(rest), behavior="isolated"),
        ]
    )
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = cut
    reserved = [EOS, PAD, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - len(reserved), show_progress=False)
    learner.train_from_iterator(_with_basics(texts), trainer)
    learned = json.loads(learner.to_str())["model"]
    names = [*reserved, *sorted(learned["vocab"], key=learned["vocab"].get)]
    tokenizer = Tokenizer(
        models.BPE(
            {name: i for i, name in enumerate(names)},
            [tuple(pair) for pair in learned["merges"]],
            byte_fallback=True,
        )
    )
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    fast: Any = transformers.PreTrainedTokenizerFast
    return fast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write the tokenizer's files into a model folder."""
    tokenizer.save_pretrained(str(folder))


def _with_basics(texts: Iterable[str]) -> Iterator[str]:
    """Texts, then often enough what must be whole: numbers, phrases, questions."""
    count = 0
    for text in texts:
        count += 1
        yield text
    numbers = [str(n) for n in range(1, 61)] + [f"{n / 10:.1f}" for n in range(3, 37)]
    weight = max(20, count // 50)
    for number in numbers:
        yield from [number] * weight
    phrases = PhraseBook().phrases
    yield from phrases * (1 + count // (2 * len(phrases)))
    for language in LANGUAGES:
        yield from [question + "\n" for question in QUESTIONS[language]] * (1 + count // 40)


def _write_task(task: tuple[tuple[Language, ...], tuple[int, int, int], int]) -> list[Sample]:
    languages, entropy, count = task
    rng = np.random.default_rng(np.random.SeedSequence(entropy))
    book = _book()
    samples = []
    for i in range(count):
        language = languages[i % len(languages)]
        findings = draw_findings(rng)
        answer = format_report(write_report(findings, language, rng))
        questions = QUESTIONS[language]
        question = questions[int(rng.integers(len(questions)))]
        rows = book.rows(findings, language)
        samples.append(Sample(language, question, answer, rows, findings))
    return samples


def _book(cache: list[PhraseBook] = []) -> PhraseBook:  # noqa: B006 - one a process, on purpose
    if not cache:
        cache.append(PhraseBook())
    return cache[0]


def _slot_contents(name: FindingName, place: Lobe | Side) -> list[list[Finding | None]]:
    """Everything a slot can hold: first nothing, then runs of findings that lie near each other."""
    if name == "nodule":
        make: Any = partial(_lobar, name, place)  # type: ignore[arg-type]
        runs = [[make(size_mm=float(s), density=d) for s in SIZES_MM] for d in DENSITIES]
        return [[None], *runs]
    if name in ("effusion", "pneumothorax"):
        return [[None], [Finding(name, place, amount=amount) for amount in AMOUNTS]]  # type: ignore[arg-type]
    return [[None], [_lobar(name, place)]]  # type: ignore[arg-type]


def _lobar(name: FindingName, lobe: Lobe, **attributes: Any) -> Finding:
    return Finding(name, side_of(lobe), lobe, **attributes)
