"""Pretrain the demo's Mamba language model: a structured prefix, then the report that states it.

The prefix is what visual tokens are trained to be: the embedding of each slot's phrase ("右肺上叶
实性 结节 14 mm"). It is blurred as an image's evidence is (another phrase mixed in, a size a little
off, noise, missing slots), so that the model follows soft tokens too. Loss on the report alone.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ctscribe.model.head_loss import IGNORED
from ctscribe.model.llm import LLM, quiet_transformers
from ctscribe.model.mamba import use_our_mixers
from ctscribe.reports.labeller import label_report
from ctscribe.reports.language import QUESTIONS, SLOTS
from ctscribe.reports.schema import Finding, Language
from ctscribe.training.data import Progress
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
from ctscribe.training.setup import clip_gradient, in_percent

# Writes on from prompts: (llm, embeds (B, L, W), mask (B, L), most tokens) to texts. Passed in,
# since training does not import generation.
Writer = Callable[[LLM, Tensor, Tensor, int], list[str]]
PREFIX_ROWS = len(SLOTS) + 1  # the bridge adds one row for the study as a whole
WIDE = 256  # values of a token
_TOKENIZER_TEXTS = 12_000
_LONGEST_ANSWER = 400


@dataclass(frozen=True)
class PretrainLLM:
    """Settings of one pretraining run."""

    steps: int = 4_000
    batch_size: int = 256
    device: str = "cuda"
    seed: int = 7  # of weights, order and noise; text seeds are SEED_SPACE + this
    d_model: int = 256
    n_layer: int = 4
    d_state: int = 16
    vocab_size: int = 2048
    reports: int = 120_000  # different reports, all languages together
    lr: float = 3e-3
    weight_decay: float = 0.05
    seconds: float | None = None  # ends the schedule early, at this time of training
    eval_reports: int = 200  # of each language, held out
    workers: int | None = None  # processes that write reports; None for one a core
    languages: tuple[Language, ...] = LANGUAGES  # of the reports; half the text is half the work
    extra_rows: int = 1  # after those of the slots at most, which may hold anything


@dataclass(frozen=True)
class Blur:
    """How far a training prefix may be from the clean phrases."""

    other: float = 0.3  # most weight of another phrase of the same slot
    size: float = 0.45  # most weight of the same nodule with a size up to 4 mm off
    noise: float = 0.5  # most standard deviation of noise, relative to the embeddings' own
    scale: float = 0.3  # most log factor of a row's length
    dropped: float = 0.15  # share of studies some of whose empty slots say nothing
    faint: float = 0.3  # standard deviation of what stands there, relative to the embeddings' own


def pretrain_llm(
    out_dir: Path,
    settings: PretrainLLM,
    *,
    write: Writer,
    log: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, save model and tokenizer to `out_dir` as `load_llm` reads them, return the figures.

    Figures (also in out_dir/pretraining.json, with settings and losses): per language, on reports
    written from clean prefixes of held-out seeds: strict F1 of findings and impression, share of
    reports that are right throughout, contradictions, and what nodules' attributes come out as.
    progress: of a bar of 100.
    """
    started = time.perf_counter()
    torch.manual_seed(settings.seed)
    samples = write_samples(
        settings.reports,
        seed=settings.seed,
        workers=settings.workers,
        languages=settings.languages,
    )
    tokenizer = train_tokenizer(
        (text for s in samples[:_TOKENIZER_TEXTS] for text in (s.question + "\n", s.answer)),
        settings.vocab_size,
    )
    llm = LLM(new_mamba(settings, tokenizer), tokenizer).to(settings.device)
    corpus = Corpus.of(samples, llm, settings.device)
    log(
        f"{len(samples)} reports, {sum(map(len, (s.answer for s in samples))) / len(samples):.0f} "
        f"characters, {float(corpus.length.float().mean()):.0f} tokens each (longest "
        f"{int(corpus.length.max())}); vocabulary {len(tokenizer)}; "
        f"{sum(p.numel() for p in llm.model.parameters()) / 1e6:.2f} M parameters; "
        f"{time.perf_counter() - started:.0f} s"
    )
    losses, seconds = _train(llm, corpus, settings, log, progress)
    llm.eval()
    figures = evaluate(llm, settings, write)
    figures["training"] = {
        "seconds": round(seconds, 1),
        "steps": losses[-1]["step"],
        "step_ms": round(1000 * seconds / max(1, losses[-1]["step"]), 1),
        "last_loss": losses[-1]["loss"],
    }
    out_dir.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        llm.base.save_pretrained(str(out_dir))
        save_tokenizer(tokenizer, out_dir)
    record = {
        "settings": asdict(settings),
        "blur": asdict(Blur()),
        "text_seeds": SEED_SPACE + settings.seed,
        "torch": torch.__version__,
        "figures": figures,
        "losses": losses,
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    (out_dir / "pretraining.json").write_text(text + "\n", encoding="utf-8")
    return figures


def new_mamba(settings: PretrainLLM, tokenizer: Any) -> nn.Module:
    """A random MambaForCausalLM that runs on our ops."""
    import transformers

    start: dict[str, Any] = {}
    if settings.d_model > WIDE:
        # transformers' own start (0.1) is for narrow models: sums grow with the width.
        start = {"initializer_range": 0.02, "rescale_prenorm_residual": True}
    config: Any = transformers.MambaConfig(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=settings.d_model,
        num_hidden_layers=settings.n_layer,
        state_size=settings.d_state,
        **start,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model: Any = transformers.MambaForCausalLM(config)
    # Embeddings are summed into prefixes and read by norms: start them small, so that they move.
    nn.init.normal_(model.get_input_embeddings().weight, std=0.05)
    use_our_mixers(model)
    return model  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Corpus:
    """All samples as tensors on the training device.

    ids: (n, longest) int16, question, answer and end, then padding. length, question: (n,) tokens
    of the whole and of the question. phrases: (n, slots). language: (n,), index into LANGUAGES.
    """

    ids: Tensor
    length: Tensor
    question: Tensor
    phrases: Tensor
    language: Tensor

    @classmethod
    def of(cls, samples: Sequence[Sample], llm: LLM, device: str) -> Corpus:
        """Tokenize samples."""
        encode = llm.tokenizer
        questions = {s.question: llm.prompt_ids(s.question) for s in samples}
        answers = encode([s.answer for s in samples], add_special_tokens=False)["input_ids"]
        rows = [
            [*questions[s.question], *answer, llm.eos_id]
            for s, answer in zip(samples, answers, strict=True)
        ]
        length = torch.tensor([len(row) for row in rows])
        ids = torch.full((len(rows), int(length.max())), llm.pad_id, dtype=torch.int16)
        flat = torch.tensor([i for row in rows for i in row], dtype=torch.int16)
        ids[torch.arange(ids.shape[1]) < length[:, None]] = flat
        return cls(
            ids.to(device),
            length,
            torch.tensor([len(questions[s.question]) for s in samples]).to(device),
            torch.tensor([s.phrases for s in samples]).to(device),
            torch.tensor([LANGUAGES.index(s.language) for s in samples]).to(device),
        )

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Indices of batches of similar length, without end."""
        size = min(size, len(self.length))
        while True:
            order = torch.randperm(len(self.length), generator=generator)
            parts: list[Tensor] = []
            for start in range(0, len(order), 64 * size):
                chunk = order[start : start + 64 * size]
                chunk = chunk[self.length[chunk].argsort()]
                parts += [chunk[i : i + size] for i in range(0, len(chunk) - size + 1, size)]
            for i in torch.randperm(len(parts), generator=generator).tolist():
                yield parts[i]


class Prefixes:
    """Phrases to prefix embeddings (B, PREFIX_ROWS, width), clean or blurred, with gradients."""

    def __init__(self, llm: LLM, book: PhraseBook, blur: Blur | None = None) -> None:
        self._llm, self._blur = llm, blur or Blur()
        self._tokens = llm.phrase_tokens(book.phrases)
        device = llm.device
        self._start, self._count, self._low, self._high = (
            torch.from_numpy(a).to(device) for a in (book.start, book.count, book.low, book.high)
        )

    def clean(self, phrases_BS: Tensor) -> Tensor:
        """Exactly the phrases; the last row, which states nothing, is zero."""
        table = self._llm.phrase_vectors(*self._tokens)
        return nn.functional.pad(table[phrases_BS], (0, 0, 0, 1))

    def blurred(self, phrases_BS: Tensor, language_B: Tensor, extra: int = 1) -> Tensor:
        """The phrases as an image would state them, more or less surely, and `extra` more rows."""
        blur, table = self._blur, self._llm.phrase_vectors(*self._tokens)
        batch, slots, device = *phrases_BS.shape, phrases_BS.device
        start, count = self._start[language_B], self._count[language_B]
        denied = phrases_BS == start

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, device=device)

        # Another phrase of the slot: half the time the denial, else any.
        other = start + (uniform(batch, slots) * count).long()
        other = torch.where(uniform(batch, slots) < 0.5, start, other)
        other_weight = blur.other * uniform(batch, slots, 1) * (uniform(batch, 1, 1) < 0.7)
        off = (uniform(batch, slots) * 9).long() - 4
        low, high = self._low[phrases_BS], self._high[phrases_BS]
        near = torch.minimum(torch.maximum(phrases_BS + off, low), high)
        size_weight = blur.size * uniform(batch, slots, 1) * (uniform(batch, 1, 1) < 0.7)
        rows = torch.lerp(table[phrases_BS], table[near], size_weight)
        rows = torch.lerp(rows, table[other], other_weight)
        rms = table.detach().square().mean().sqrt()
        strength = rms * blur.noise * uniform(batch, 1, 1)
        rows = rows + strength * torch.randn_like(rows)
        rows = rows * torch.exp(blur.scale * (2 * uniform(batch, slots, 1) - 1))
        dropped = (uniform(batch, 1) < blur.dropped) & (uniform(batch, slots) < 0.4) & denied
        # Not zeros: Mamba gates such a row to zero in every layer, and the norm of each multiplies
        # its gradient by up to 300.
        rows = torch.where(dropped[..., None], rms * blur.faint * torch.randn_like(rows), rows)
        # The bridge's row for the whole study, and the local stream's, may hold anything, other
        # findings' phrases too: the model learns to pass over them.
        beyond = torch.randn(batch, extra, rows.shape[-1], device=device)
        beyond = rms * 1.5 * uniform(batch, 1, 1) * beyond
        if extra > 1:
            phrase = (uniform(batch, extra) * len(table)).long()
            beyond = beyond + uniform(batch, 1, 1) * table[phrase]
        return torch.cat([rows, beyond], 1)


def _train(
    llm: LLM,
    corpus: Corpus,
    settings: PretrainLLM,
    log: Callable[[str], None],
    progress: Progress | None,
) -> tuple[list[dict[str, float]], float]:
    """The losses, each the mean since the one before, and the seconds it took."""
    cuda = settings.device.startswith("cuda")
    prefixes = Prefixes(llm, PhraseBook())
    optimizer = torch.optim.AdamW(
        _groups(llm.model, settings.weight_decay), lr=settings.lr, betas=(0.9, 0.95), fused=cuda
    )
    generator = torch.Generator().manual_seed(settings.seed)
    batches = corpus.batches(settings.batch_size, generator)
    every = max(1, min(100, settings.steps // 10))
    total = torch.zeros((), device=settings.device)
    losses: list[dict[str, float]] = []
    started, step, done = time.perf_counter(), 0, 0.0
    tell = in_percent(progress)
    llm.train()
    while done < 1 and step < settings.steps:
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * _schedule(done, step)
        index = next(batches)
        extra = extra_rows(settings.extra_rows, step, generator)
        autocast = torch.autocast("cuda", torch.bfloat16) if cuda else nullcontext()
        with autocast:
            loss = _loss(llm, prefixes, corpus, index, extra)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradient(llm.model.parameters(), 1.0)
        optimizer.step()
        total += loss.detach()
        step += 1
        elapsed = time.perf_counter() - started
        done = max(step / settings.steps, elapsed / settings.seconds if settings.seconds else 0.0)
        tell(done)
        if step % every == 0 or done >= 1:
            since = step - (int(losses[-1]["step"]) if losses else 0)
            losses.append({"step": step, "loss": round(float(total) / since, 4)})
            total.zero_()
            elapsed = time.perf_counter() - started
            log(
                f"step {step}/{settings.steps}, loss {losses[-1]['loss']:.4f}, "
                f"{1000 * elapsed / step:.0f} ms a step, {elapsed:.0f} s"
            )
    return losses, time.perf_counter() - started


def extra_rows(most: int, step: int, generator: torch.Generator) -> int:
    """1 in every other step, else from 1 to `most`, as often below its square root as above."""
    share = float(torch.rand((), generator=generator)) if step % 2 else 0.0
    return round(float(most**share))


def _loss(llm: LLM, prefixes: Prefixes, corpus: Corpus, index: Tensor, extra: int = 1) -> Tensor:
    """Mean cross-entropy of the answers of one batch; extra: rows, see `Prefixes.blurred`."""
    longest = int(corpus.length[index].max())
    length = corpus.length[index].to(llm.device)[:, None]
    index = index.to(llm.device)
    ids = corpus.ids[index, :longest].long()
    position = torch.arange(longest, device=llm.device)
    answer = (position >= corpus.question[index][:, None]) & (position < length)
    labels = ids.masked_fill(~answer, IGNORED)
    prefix = prefixes.blurred(corpus.phrases[index], corpus.language[index], extra)
    rows = prefix.shape[1]
    embeds = torch.cat([prefix, llm.embed(ids)], 1)
    mask = nn.functional.pad((position < length).long(), (rows, 0), value=1)
    return llm.forward_embeds(embeds, mask, nn.functional.pad(labels, (rows, 0), value=IGNORED))


def _groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices only; A_log, D, norms, biases and embeddings keep their size."""
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        plain = parameter.dim() < 2 or parameter is embedding.weight or name.endswith("A_log")
        (others if plain or "conv1d" in name else matrices).append(parameter)
    return [
        {"params": matrices, "weight_decay": decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _schedule(done: float, step: int) -> float:
    """Linear over the first 100 steps (a tenth of a short run), then a cosine to 2 %."""
    warm = min(1.0, (step + 1) / 100) if done < 0.1 else 1.0
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


@torch.no_grad()
def evaluate(llm: LLM, settings: PretrainLLM, write: Writer) -> dict[str, Any]:
    """Reports of held-out findings from clean prefixes, read back; see `pretrain_llm`."""
    book = PhraseBook()
    prefixes = Prefixes(llm, book)
    figures: dict[str, Any] = {}
    for language in settings.languages:
        chosen = write_samples(
            settings.eval_reports,
            seed=settings.seed,
            stream=HELD_OUT,
            workers=1,
            languages=(language,),
        )
        prompt = torch.tensor(llm.prompt_ids(QUESTIONS[language][0]), device=llm.device)
        texts: list[str] = []
        for start in range(0, len(chosen), 100):
            part = chosen[start : start + 100]
            phrases = torch.tensor([s.phrases for s in part], device=llm.device)
            question = llm.embed(prompt).expand(len(part), -1, -1)
            embeds = torch.cat([prefixes.clean(phrases), question], 1)
            mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=llm.device)
            texts += write(llm, embeds, mask, _LONGEST_ANSWER)
        figures[language] = _score(texts, [s.findings for s in chosen])
        figures[language]["examples"] = texts[:3]
    return figures


def _score(texts: Sequence[str], truth: Sequence[tuple[Finding, ...]]) -> dict[str, Any]:
    read = [label_report(text) for text in texts]
    sections = {
        "findings": [r.findings for r in read],
        "impression": [r.impression for r in read],
    }
    figures: dict[str, Any] = {}
    for name, said in sections.items():
        pairs = [(_places(a), _places(b)) for a, b in zip(said, truth, strict=True)]
        hits = sum(len(a & b) for a, b in pairs)
        figures[f"strict_f1_{name}"] = round(
            2 * hits / max(1, sum(len(a) + len(b) for a, b in pairs)), 4
        )
    nodules = [
        (f, g)
        for said, real in zip(sections["findings"], truth, strict=True)
        for f in said
        for g in real
        if f.name == g.name == "nodule" and f.lobe == g.lobe
    ]
    count = max(1, len(nodules))
    exact = [set(a) == set(b) for a, b in zip(sections["findings"], truth, strict=True)]
    figures["density_accuracy"] = round(sum(f.density == g.density for f, g in nodules) / count, 4)
    figures["size_accuracy"] = round(sum(f.size_mm == g.size_mm for f, g in nodules) / count, 4)
    figures["wholly_right"] = round(sum(exact) / max(1, len(exact)), 4)
    figures["contradictions"] = sum(r.contradictions for r in read)
    figures["empty"] = sum(not text for text in texts)
    return figures


def _places(findings: Sequence[Finding]) -> set[tuple[str, str | None]]:
    return {(f.name, f.place) for f in findings}
