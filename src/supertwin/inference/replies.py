"""Lengths of replies in conversation benchmarks: how much the short ones count in a mean of times per token."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SHAREGPT_SPREAD = 1.15
"""Variance over squared mean of the replies below."""

SHAREGPT_LEAST = (0.015, 0.031, 0.061, 0.122, 0.245, 0.489, 0.978, 1.956, 3.912)
SHAREGPT_WEIGHT = (6.82, 6.20, 4.91, 3.39, 2.17, 1.37, 0.84, 0.49, 0.26)
"""Mean(1 / length) x mean length of ShareGPT replies (tokens after the first) when each counts as so many times the
mean at least: 4,491 pairs that vLLM's sampler keeps (4 tokens at least, prompts up to 1,024, 2,048 in all) of 5,000 in
results/dataset_stats.json of IsseiHasegawa/vLLM-experiment (mean 228.7 in, 197.3 out; 5 % have 7 tokens or fewer).

The file is cut into pieces, many of which begin with an answer: the next "reply" is what a person says, and short.
Exponential lengths of the same mean would have 3.6.
"""


def reply_weight(least: float | Array) -> Array:
    """How often a time that does not depend on a request's length counts in the mean of time / length over requests,
    where lengths are `least` means at least; beyond the table all lengths count alike."""
    least = np.maximum(np.asarray(least, dtype=float), SHAREGPT_LEAST[0])
    inside = np.exp(np.interp(np.log(least), np.log(SHAREGPT_LEAST), np.log(SHAREGPT_WEIGHT)))
    return np.asarray(np.where(least > SHAREGPT_LEAST[-1], 1.0 / least, inside))
