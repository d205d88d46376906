"""Text as it comes: the pieces joined are the text, and nothing is given out that changes later."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from ctscribe.errors import ConfigError
from ctscribe.generation.decode import Generated, generate, stream
from ctscribe.generation.text import Writing
from ctscribe.model.llm import LLM
from tests.generation.ending import ending_pair, random_prompts

_, WRITER = ending_pair(0)
CHARACTERS = "右肺上叶结节。 \n\u3000a𠮷é\ufffd"


@cache
def with_tokenizer(kind: str) -> LLM:
    """Single bytes for what has no token, blanks marked at words' starts, or bytes throughout."""
    if kind == "fallback":
        return WRITER
    pad_end = ["<end>", "<pad>"]
    if kind == "bytes":
        made = tokenizers.Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=330, special_tokens=pad_end, initial_alphabet=alphabet, show_progress=False
        )
        made.train_from_iterator(["右肺上叶结节。左肺下叶结节。"] * 9, trainer)
    else:
        single = [f"<0x{n:02X}>" for n in range(256)]
        words = [*pad_end, *single, "▁", "右", "▁右", "肺上", "结节", "。", "a", "▁a"]
        made = tokenizers.Tokenizer(
            models.BPE({w: i for i, w in enumerate(words)}, [("▁", "右")], byte_fallback=True)
        )
        made.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
    fast: Any = transformers.PreTrainedTokenizerFast
    return LLM(WRITER.model, fast(tokenizer_object=made, eos_token="<end>", pad_token="<pad>"))


def tokens_of(text: str, llm: LLM = WRITER) -> list[int]:
    return list(llm.tokenizer(text, add_special_tokens=False)["input_ids"])


def blocks(tokens: list[int], cuts: list[int]) -> Iterator[list[int]]:
    at = 0
    for cut in [*cuts, len(tokens)]:
        yield tokens[at : at + cut]
        at += cut


def written(
    llm: LLM, tokens: list[int], cuts: list[int], stop: tuple[str, ...]
) -> tuple[str, Generated]:
    writing, shown = Writing(llm, stop), ""
    for block in blocks(tokens, cuts):
        writing.take(block)
        shown += writing.show()
    return shown + writing.rest(), writing.result()


CUTS = st.lists(st.integers(0, 5), max_size=12)
STOPS = st.lists(st.text("右结节。 \nab", min_size=1, max_size=3), max_size=3).map(tuple)


@pytest.mark.parametrize("kind", ["fallback", "bytes", "blanks"])
@settings(max_examples=150, deadline=None)
@given(data=st.data(), end=st.booleans(), cuts=CUTS, stop=STOPS)
def test_pieces_join_to_the_text_whatever_the_blocks(
    kind: str, data: st.DataObject, end: bool, cuts: list[int], stop: tuple[str, ...]
) -> None:
    llm = with_tokenizer(kind)
    rubbish = st.lists(st.integers(2, len(llm.tokenizer) - 1), max_size=30)
    sense = st.text(CHARACTERS, max_size=20).map(lambda text: tokens_of(text, llm))
    tokens = data.draw(rubbish | sense)
    ids = [*tokens, llm.eos_id, *tokens[:3]] if end else tokens
    shown, result = written(llm, ids, cuts, stop)
    assert shown == result.text
    cut = any(s in llm.decode(tokens) for s in stop)
    read = llm.decode(result.tokens)
    assert (
        result.text == read[: min((read.index(s) for s in stop if s in read), default=None)].strip()
    )
    assert result == written(llm, ids, [], stop)[1]
    if not cut:
        assert result.tokens == tuple(tokens)
    else:  # they end with the one that completed the string
        assert any(s in llm.decode(result.tokens) for s in stop)
        assert not any(s in llm.decode(result.tokens[:-1]) for s in stop)
    ended = end or cut
    assert result.finish_reason == ("empty" if not result.text else "stop" if ended else "length")


def test_a_character_is_held_back_until_all_its_bytes_are_here() -> None:
    for kind, pieces in (("fallback", ["右", "𠮷肺"]), ("bytes", ["右", "𠮷", "肺"])):
        llm = with_tokenizer(kind)
        tokens = tokens_of("右𠮷肺", llm)
        assert len(tokens) > 4  # the rare one is in bytes
        writing, shown = Writing(llm), []
        for token in tokens:
            writing.take([token])
            shown.append(writing.show())
        assert [s for s in shown if s] == pieces


def test_what_may_become_a_stop_string_and_blanks_are_held_back() -> None:
    writing = Writing(WRITER, ["结论"])
    shown = []
    for text in ("\n所见", " 结", "节。 ", "结", "论", "后"):
        writing.take(tokens_of(text))
        shown.append(writing.show())
    assert shown == ["所见", "", " 结节。", "", "", ""]
    assert writing.ended
    assert writing.result().text == "所见 结节。"
    assert writing.result().finish_reason == "stop"


def test_nothing_before_a_stop_string_is_an_empty_text() -> None:
    writing = Writing(WRITER, ["结"])
    writing.take(tokens_of(" 结节"))
    assert (writing.show(), writing.rest()) == ("", "")
    assert writing.result().finish_reason == "empty"


def consume(llm: LLM, prompt: tuple[torch.Tensor, torch.Tensor], **options: object) -> Generated:
    pieces = []

    def reader() -> Iterator[Generated]:
        result = yield from stream(llm, *prompt, **options)  # type: ignore[arg-type]
        yield result  # type: ignore[misc]

    *pieces, result = reader()
    assert "".join(pieces) == result.text  # type: ignore[arg-type]
    return result


@pytest.mark.parametrize("sample", [False, True])
def test_a_stream_writes_what_generate_writes(sample: bool) -> None:
    reasons = set()
    for seed in range(6):
        _, llm = ending_pair(seed)
        prompt = random_prompts(seed, 1, 3)
        plain = generate(llm, *prompt, max_new_tokens=20, do_sample=sample, seed=seed)[0]
        assert consume(llm, prompt, max_new_tokens=20, do_sample=sample, seed=seed) == plain
        if len(plain.text) > 6:
            stop = [plain.text[4:6]]
            cut = generate(llm, *prompt, max_new_tokens=20, do_sample=sample, seed=seed, stop=stop)[
                0
            ]
            assert cut.text == plain.text[: plain.text.index(stop[0])].strip()
            assert len(cut.tokens) < len(plain.tokens) or plain.finish_reason == "stop"
            kept = consume(llm, prompt, max_new_tokens=20, do_sample=sample, seed=seed, stop=stop)
            assert kept == cut
        reasons.add(plain.finish_reason)
    assert len(reasons) > 1


def test_a_stop_string_ends_one_text_of_a_batch_and_leaves_the_others() -> None:
    _, llm = ending_pair(3, eagerness=-99)
    prompts = random_prompts(3, 3, 4)
    plain = generate(llm, *prompts, max_new_tokens=12)
    stop = plain[1].text[3:6]
    cut = generate(llm, *prompts, max_new_tokens=12, stop=[stop])
    assert cut[1].text == plain[1].text.split(stop)[0].strip()
    assert cut[1].finish_reason == "stop"
    for i in (0, 2):
        if stop not in plain[i].text:
            assert cut[i] == plain[i]


def test_beams_are_cut_at_a_stop_string() -> None:
    _, llm = ending_pair(3)
    prompt = random_prompts(3, 1, 4)
    plain = generate(llm, *prompt, max_new_tokens=12, num_beams=3)[0]
    stop = plain.text[2:4]
    cut = generate(llm, *prompt, max_new_tokens=12, num_beams=3, stop=[stop])[0]
    assert cut.text == plain.text.split(stop)[0].strip()


def test_a_closed_stream_stops_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    from ctscribe.model.decoder import MambaDecoder

    _, llm = ending_pair(1, eagerness=-99)
    steps = []
    real = MambaDecoder.step
    monkeypatch.setattr(
        MambaDecoder, "step", lambda self, *args: steps.append(1) or real(self, *args)
    )
    pieces = stream(llm, *random_prompts(1, 1, 3), max_new_tokens=200)
    next(pieces)
    pieces.close()
    assert len(steps) < 10


def test_what_cannot_stop_is_refused() -> None:
    prompt = random_prompts(0, 2, 3)
    with pytest.raises(ConfigError, match="empty string"):
        generate(WRITER, *prompt, max_new_tokens=3, stop=["a", ""])
    with pytest.raises(ConfigError, match="one string"):
        generate(WRITER, *prompt, max_new_tokens=3, stop="abc")
    with pytest.raises(ValueError, match="one prompt"):
        next(stream(WRITER, *prompt, max_new_tokens=3))
