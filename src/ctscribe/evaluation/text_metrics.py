"""How alike two texts read: BLEU and ROUGE-L. Never the headline.

A flipped negation ("未见气胸" for "见气胸") leaves ROUGE-L at 1.000 and BLEU at 92: these numbers
say how fluent and how near the wording is, not whether it is true (`evaluation.clinical` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ctscribe.reports.schema import Language

NOTE = "wording only, blind to a flipped negation: never the headline"


@dataclass(frozen=True)
class TextScores:
    """bleu: corpus BLEU, 0 to 100; rouge_l: mean F1 on characters, 0 to 1; note: what they lack."""

    bleu: float
    rouge_l: float
    note: str = NOTE


def text_scores(
    generated: Sequence[str], references: Sequence[str], language: Language = "zh"
) -> TextScores:
    """Scores of generated texts against one reference each.

    language: chooses BLEU's tokens (sacrebleu `zh` or `13a`). Raises ValueError if the numbers of
    texts differ or there are none.
    """
    if len(generated) != len(references) or not generated:
        raise ValueError(f"{len(generated)} generated texts for {len(references)} references")
    from sacrebleu import corpus_bleu  # slow to import, and only evaluation needs it

    tokens = "zh" if language == "zh" else "13a"
    bleu = corpus_bleu(list(generated), [list(references)], tokenize=tokens)
    rouge = [rouge_l(text, ref) for text, ref in zip(generated, references, strict=True)]
    return TextScores(float(bleu.score), sum(rouge) / len(rouge))


def rouge_l(generated: str, reference: str) -> float:
    """ROUGE-L F1 on characters, white space left out; 0 if either is empty."""
    a, b = "".join(generated.split()), "".join(reference.split())
    if not a or not b:
        return 0.0
    return 2 * _common_subsequence(a, b) / (len(a) + len(b))


def _common_subsequence(a: str, b: str) -> int:
    """Length of the longest common subsequence, a bit a character (Hyyrö 2004)."""
    where: dict[str, int] = {}
    for position, character in enumerate(a):
        where[character] = where.get(character, 0) | 1 << position
    full = (1 << len(a)) - 1
    row = full
    for character in b:
        match = row & where.get(character, 0)
        row = ((row + match) | (row - match)) & full
    return len(a) - row.bit_count()
