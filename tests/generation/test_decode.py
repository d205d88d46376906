from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import transformers

from ctscribe.errors import ConfigError
from ctscribe.generation import families
from ctscribe.generation.decode import generate, pad_left, stream
from ctscribe.generation.picker import Rules
from ctscribe.model.llm import LLM, load_llm
from tests.model.tiny import save, stock_mamba, tokenizer


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return load_llm(save(tmp_path_factory.mktemp("llm"), stock_mamba()))


def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(4)
    return pad_left([torch.randn(n, 24, generator=g) for n in (5, 11, 8, 1)])


@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty` with `inputs_embeds`:UserWarning")
@pytest.mark.parametrize("penalty", [1.0, 1.7])
def test_greedy_equals_transformers_generate_token_for_token(llm: LLM, penalty: float) -> None:
    embeds, mask = prompts()
    if (
        penalty != 1
    ):  # transformers 5.24 spares the first tokens after a padded prompt of embeddings
        embeds, mask = embeds[:, -1:], mask[:, -1:]
    ours = generate(llm, embeds, mask, max_new_tokens=60, repetition_penalty=penalty)
    theirs = stock_mamba().generate(
        inputs_embeds=embeds,
        attention_mask=mask,
        max_new_tokens=60,
        do_sample=False,
        repetition_penalty=penalty,
        suppress_tokens=llm.unused_ids().nonzero()[:, 0].tolist(),
    )
    for mine, row in zip(ours, theirs.tolist(), strict=True):
        if llm.eos_id in row:
            row = row[: row.index(llm.eos_id)]
        assert list(mine.tokens) == row
    assert len({text.tokens for text in ours}) > 1


def test_a_prompt_is_written_on_the_same_alone_or_in_a_padded_batch(llm: LLM) -> None:
    embeds, mask = prompts()
    together = generate(llm, embeds, mask, max_new_tokens=40)
    alone = generate(llm, embeds[2:3, 3:], mask[2:3, 3:], max_new_tokens=40)
    assert alone[0] == together[2]


def scripted(llm: LLM, tokens: list[int]) -> LLM:
    """A copy of the LLM that writes exactly these tokens, then the end."""
    model = stock_mamba(1)

    class Script(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.at = 0

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(len(hidden), len(tokenizer()) + 9)
            logits[:, ([*tokens, llm.eos_id])[self.at]] = 5
            logits[:, len(tokenizer()) :] = 9  # unused rows may score as they like
            self.at += 1
            return logits

    from ctscribe.model.mamba import use_our_mixers

    use_our_mixers(model)
    model.lm_head = Script()
    return LLM(model, tokenizer())


@pytest.mark.parametrize(
    ("text", "limit", "reason"),
    [("右肺上叶结节。", 50, "stop"), ("右肺上叶结节。", 2, "length"), ("", 9, "empty")],
)
def test_finish_reason_and_unused_rows(llm: LLM, text: str, limit: int, reason: str) -> None:
    tokens = llm.tokenizer(text, add_special_tokens=False)["input_ids"]
    model = scripted(llm, tokens)
    out = generate(model, torch.zeros(1, 2, 24), torch.ones(1, 2), max_new_tokens=limit)[0]
    assert out.finish_reason == reason
    assert out.tokens == tuple(tokens[:limit])
    assert out.text == llm.decode(tokens[:limit])


def test_sampling_follows_seed_and_top_p(llm: LLM) -> None:
    embeds, mask = prompts()
    draw: dict[str, Any] = {"max_new_tokens": 12, "do_sample": True, "temperature": 1.5}
    first = generate(llm, embeds, mask, seed=1, **draw)
    assert first == generate(llm, embeds, mask, seed=1, **draw)
    assert first != generate(llm, embeds, mask, seed=2, **draw)
    # A top_p below the likeliest token's probability leaves that token alone.
    narrow = generate(llm, embeds, mask, seed=1, top_p=1e-6, **draw)
    assert narrow == generate(llm, embeds, mask, max_new_tokens=12)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    torch.manual_seed(0)
    config: Any = transformers.LlamaConfig(
        vocab_size=len(tokenizer()) + 5,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=0,
        pad_token_id=1,
        bos_token_id=0,
    )
    folder = tmp_path_factory.mktemp("llama")
    return load_llm(save(folder, transformers.LlamaForCausalLM(config)))


def llama_prompts() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(4)
    return pad_left([torch.randn(n, 16, generator=g) for n in (3, 5)])


def test_another_family_is_written_by_transformers(llama: LLM) -> None:
    embeds, mask = llama_prompts()
    out = generate(llama, embeds, mask, max_new_tokens=7)
    alone = generate(llama, embeds[:1, 2:], mask[:1, 2:], max_new_tokens=7)
    assert [len(o.tokens) for o in out] == [7, 7]
    assert out[0] == alone[0]


def test_another_family_takes_the_same_options(llama: LLM) -> None:
    embeds, mask = llama_prompts()
    plain = generate(llama, embeds, mask, max_new_tokens=40)
    single = generate(llama, embeds, mask, max_new_tokens=40, no_repeat_ngram_size=1)
    assert all(len(set(text.tokens)) == 40 for text in single)
    assert any(len(set(text.tokens)) < 40 for text in plain)
    assert generate(llama, embeds, mask, max_new_tokens=40, num_beams=3) != plain
    assert generate(llama, embeds, mask, max_new_tokens=40, repetition_penalty=1.5) != plain
    draw: dict[str, Any] = {"max_new_tokens": 40, "do_sample": True}
    drawn = generate(llama, embeds, mask, seed=1, **draw)
    assert drawn == generate(llama, embeds, mask, seed=1, **draw)
    assert drawn != generate(llama, embeds, mask, seed=2, **draw)
    assert generate(llama, embeds, mask, top_p=1e-6, **draw) == plain
    words = [w for t in single[0].tokens[3:20] if len(w := llama.decode([t])) > 1]
    stop = next(w for w in words if w.isalpha())
    for beams in (1, 2):
        options: dict[str, Any] = {
            "max_new_tokens": 40,
            "no_repeat_ngram_size": 1,
            "num_beams": beams,
        }
        whole = generate(llama, embeds, mask, **options)
        cut = generate(llama, embeds, mask, stop=[stop], **options)
        for text, before in zip(cut, whole, strict=True):
            assert text.text == before.text.split(stop)[0].strip()
            if stop not in before.text:
                assert text == before
    rows = families.write(llama, embeds[:1], mask[:1], 40, Rules(no_repeat_ngram_size=1), [stop], 0)
    assert len(rows[0]) < 20  # it stopped there, and was not only cut


@pytest.mark.parametrize("sample", [False, True])
def test_another_family_streams_what_generate_writes(llama: LLM, sample: bool) -> None:
    embeds, mask = llama_prompts()
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": sample, "seed": 3}
    whole = generate(llama, embeds[1:], mask[1:], **options)[0]
    pieces = list(stream(llama, embeds[1:], mask[1:], **options))
    assert len(pieces) > 3
    assert "".join(pieces) == whole.text
    stop = whole.text[3:5]
    cut = list(stream(llama, embeds[1:], mask[1:], stop=[stop], **options))
    assert "".join(cut) == whole.text.split(stop)[0].strip()


def test_a_closed_stream_ends_the_thread_and_an_error_in_it_is_raised(
    llama: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeds, mask = llama_prompts()
    threads = threading.active_count()
    put, written = families._Streamer.put, []
    monkeypatch.setattr(
        families._Streamer, "put", lambda self, ids: written.append(1) or put(self, ids)
    )
    pieces = stream(llama, embeds[1:], mask[1:], max_new_tokens=1000)
    next(pieces)
    pieces.close()
    assert threading.active_count() == threads
    assert len(written) < 500

    def broken(**_: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(llama.base, "generate", broken)
    with pytest.raises(MemoryError, match="no room"):
        next(stream(llama, embeds[1:], mask[1:], max_new_tokens=4))


def test_settings_out_of_range_and_right_padding_are_refused(llm: LLM) -> None:
    embeds, mask = prompts()
    with pytest.raises(ConfigError, match="top_p is 0"):
        generate(llm, embeds, mask, max_new_tokens=3, do_sample=True, top_p=0)
    with pytest.raises(ConfigError, match="max_new_tokens is 0"):
        generate(llm, embeds, mask, max_new_tokens=0)
    with pytest.raises(ValueError, match="at the left only"):
        generate(llm, embeds, mask.flip(1), max_new_tokens=3)
    assert generate(llm, embeds[:0], mask[:0], max_new_tokens=3) == []
