"""The size of a step as the operators see it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Real = float | npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """sequences: on one attention rank (and pipeline micro-batch); shared_sequences: on all ranks whose tokens meet in
    one set of experts; q_len: new tokens per sequence; kv_len: keys per sequence, new ones included.
    chunk: prompt tokens that ride in a decode step (mixed.py); beside: the other part of such a step, whose tokens meet
    in the same experts.
    """

    phase: str
    sequences: Real
    shared_sequences: Real
    q_len: Real
    kv_len: Real
    chunk: Shape | None = None
    beside: Shape | None = None

    @property
    def tokens(self) -> Real:
        """New tokens on one attention rank."""
        return self.sequences * self.q_len

    @property
    def all_tokens(self) -> Real:
        """New tokens on one attention rank with those of a chunk."""
        return self.tokens + (self.chunk.tokens if self.chunk is not None else 0.0)

    @property
    def kernels_of(self) -> str:
        """Phase whose overlap and host rules the step follows: any chunk makes it one of prefill."""
        return self.phase if self.chunk is None else "prefill"

    @property
    def shared_tokens(self) -> Real:
        """New tokens that meet in the experts."""
        own = self.shared_sequences * self.q_len
        return own if self.beside is None else own + self.beside.shared_tokens

    @property
    def prompts(self) -> Real:
        """Prompts whose favourite experts average out: sequences that meet in the experts, weighted by their tokens."""
        if self.beside is None:
            return self.shared_sequences
        other = self.beside
        squares = self.shared_sequences * self.q_len**2 + other.shared_sequences * other.q_len**2
        return self.shared_tokens**2 / squares

    def fill(self, ranks: float) -> Real:
        """Sequences over those of as many full ranks: below 1 where some ranks have none."""
        return self.shared_sequences / (self.sequences * ranks)

    def met(self, ranks: float) -> Real:
        """Tokens that meet in the experts over those of as many full ranks."""
        if self.beside is None:
            return self.fill(ranks)
        return self.shared_tokens / ((self.tokens + self.beside.tokens) * ranks)

    def halved(self) -> Shape:
        """One of two micro-batches."""
        return replace(
            self,
            sequences=self.sequences / 2.0,
            shared_sequences=self.shared_sequences / 2.0,
            beside=None if self.beside is None else self.beside.halved(),
        )

    def parts(self) -> tuple[Shape, ...]:
        """Decode part and chunk, each with the other's tokens beside it; a step without chunk is its only part."""
        if self.chunk is None:
            return (self,)
        own, chunk = replace(self, chunk=None), self.chunk
        return replace(own, beside=chunk), replace(chunk, beside=own)
