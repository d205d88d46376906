"""From tokens to text while they come in: what is stable, where it stops, why it ended."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ctscribe.model.llm import LLM

FinishReason = Literal["stop", "length", "empty"]
_UNDECODABLE = "\ufffd"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class Generated:
    """One text: `tokens` without the end token, and why it ended.

    stop: the model ended it, or a stop string did; that string and what follows are cut off the
    text, and `tokens` end with the one that completed it. length: max_new_tokens did. empty: no
    text, whatever ended it.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason


class Writing:
    """One text as its tokens come in. stop: strings that end it."""

    def __init__(self, llm: LLM, stop: Sequence[str] = ()) -> None:
        self._llm, self._stop = llm, stop
        self._tokens: list[int] = []
        self._ended = False  # by the end token
        self._stable = _StableText(llm)
        self._text = ""  # everything stable
        self._shown = 0  # how much of it has been given out, blanks at its start included
        self._cut: int | None = None  # where a stop string begins

    @property
    def ended(self) -> bool:
        """Whether no further token matters."""
        return self._ended or self._cut is not None

    def take(self, tokens: Sequence[int]) -> None:
        """Add tokens, nothing after the end token."""
        for token in tokens:
            if self.ended:
                return
            if token == self._llm.eos_id:
                self._ended = True
                return
            self._tokens.append(token)
            if self._stop:
                self._grow()

    def show(self) -> str:
        """The text that has become stable since the last call.

        A character whose bytes are not all here is held back, and so are what may be the start of a
        stop string and blanks, which are cut off at the end.
        """
        if self._cut is None:
            self._grow()
        held = max((_overlap(self._text, s) for s in self._stop), default=0)
        end = len(self._text) - held if self._cut is None else self._cut
        return self._out(end)

    def result(self) -> Generated:
        """The text as a whole."""
        tokens = self._tokens
        text = self._llm.decode(tokens)
        cut = self._find(text)
        while cut is not None:
            shorter = self._llm.decode(tokens[:-1])
            if (earlier := self._find(shorter)) is None:
                break
            # It was seen late, after bytes that had to wait.
            tokens, text, cut = tokens[:-1], shorter, earlier
        text = text[:cut].strip()
        ended = self._ended or cut is not None
        reason: FinishReason = "empty" if not text else "stop" if ended else "length"
        return Generated(text, tuple(tokens), reason)

    def rest(self) -> str:
        """What `show` has not given out of `result().text`."""
        shown = self._text[: self._shown].lstrip()
        return self.result().text.removeprefix(shown)

    def _grow(self) -> None:
        """Take in the text that has become stable; look for stop strings where it is new."""
        new = self._stable.add(self._tokens)
        if not new:
            return
        longest = max(map(len, self._stop), default=0)
        look = max(0, len(self._text) - longest + 1)
        self._text += new
        self._cut = self._find(self._text, look)

    def _find(self, text: str, start: int = 0) -> int | None:
        return min((at for s in self._stop if (at := text.find(s, start)) >= 0), default=None)

    def _out(self, end: int) -> str:
        text = self._text[:end].rstrip()
        new = text[self._shown :]
        if not self._shown:
            new = new.lstrip()
        self._shown = max(self._shown, len(text))
        return new


class _StableText:
    """Decodes a growing list of tokens, a few at a time.

    The tokens of a window are decoded together with those before them, since the text of a token
    may depend on its neighbours (blanks at the start of words, characters of several tokens).
    Where single bytes are tokens, a run of them is one word or rubbish as a whole: it waits for the
    first token that is none.
    """

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self._from, self._to = 0, 0  # tokens whose text is out and that give the next ones context
        self._given = 0  # characters after them that are out as well

    def add(self, tokens: Sequence[int]) -> str:
        """The text of `tokens` that is new and cannot change any more."""
        end = len(tokens)
        while end > self._to and self._is_byte(tokens[end - 1]):
            end -= 1
        if end == self._to:
            return ""
        before = len(self._llm.decode(tokens[self._from : self._to]))
        text = self._llm.decode(tokens[self._from : end])[before:]
        # Bytes that are no character yet decode as one mark at the end; others may become text.
        stable = text.rstrip(_UNDECODABLE)
        new = stable[self._given :]
        if stable == text:
            self._from, self._to, self._given = self._to, end, 0
        else:
            self._given = len(stable)
        return new

    def _is_byte(self, token: int) -> bool:
        name = self._llm.tokenizer.convert_ids_to_tokens(token)
        return _BYTE.fullmatch(name or "") is not None


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are the start of `stop`."""
    for n in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:n]):
            return n
    return 0
