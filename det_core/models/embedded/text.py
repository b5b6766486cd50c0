"""The embedded DiT's text encoder: a fixed vector a word, marked by whether it stands before or after "on".

Convention: an encoding is (B, 8, 64) float32. Known words come in reading order; the rest of the 8 places is zero; an
    empty prompt is all zeros (the unconditional prompt of guidance).
"""

from __future__ import annotations

import logging
import re

import torch

from .corpus import BACKGROUND_COLOURS, COLOURS, PATTERNS, SHAPES

log = logging.getLogger(__name__)

LENGTH = 8
WIDTH = 64
VOCABULARY = (*COLOURS, *SHAPES, *BACKGROUND_COLOURS, *PATTERNS)


class WordEncoder:
    """Look words up in `table` (len(VOCABULARY) + 2, 64), the last two rows mark sprite and background."""

    words = VOCABULARY

    def __init__(self, table: torch.Tensor):
        self.table = table

    def role_after(self, word: str, role: int) -> int:
        """The mark of the words that follow `word`, counted from the table's first row after the words."""
        return 1 if word == "on" else role

    @classmethod
    def create(cls, generator: torch.Generator) -> WordEncoder:
        """A table of orthonormal rows, scaled to unit mean square."""
        rows, _ = torch.linalg.qr(torch.randn(WIDTH, len(VOCABULARY) + 2, generator=generator))
        return cls(rows.T.contiguous() * WIDTH**0.5)

    def encode(self, prompts: list[str]) -> torch.Tensor:
        """Encode prompts to (len(prompts), 8, 64). Words outside the vocabulary are ignored, with one log line."""
        out = torch.zeros(len(prompts), LENGTH, WIDTH)
        for row, prompt in zip(out, prompts, strict=True):
            words = re.findall(r"[a-z]+", prompt.lower())
            known, role, unknown = [], 0, []
            for word in words:
                role = self.role_after(word, role)
                if word in self.words:
                    known.append(self.table[self.words.index(word)] + self.table[len(self.words) + role])
                elif word not in ("on", "a", "an", "the", "background", "in", "of", "with", "and"):
                    unknown.append(word)
            if unknown:
                log.warning(
                    "the embedded model does not know the words %s; it knows %s",
                    ", ".join(unknown),
                    ", ".join(self.words),
                )
            if known:
                row[: len(known[:LENGTH])] = torch.stack(known[:LENGTH])
        return out
