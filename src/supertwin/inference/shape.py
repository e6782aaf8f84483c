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
    """

    phase: str
    sequences: Real
    shared_sequences: Real
    q_len: Real
    kv_len: Real

    @property
    def tokens(self) -> Real:
        """New tokens on one attention rank."""
        return self.sequences * self.q_len

    @property
    def shared_tokens(self) -> Real:
        """New tokens that meet in the experts."""
        return self.shared_sequences * self.q_len

    def halved(self) -> Shape:
        """One of two micro-batches."""
        return replace(self, sequences=self.sequences / 2.0, shared_sequences=self.shared_sequences / 2.0)
