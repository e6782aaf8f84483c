"""How many drafts of a chain or a tree are accepted.

A chain of m drafts, each accepted with a_i given all before it, yields 1 + a_1 + a_1 a_2 + ... tokens per step. A tree
(EAGLE-2, arXiv 2406.16858) expands the `topk` best nodes of every level by `topk` children each and verifies the best
of all by the product of their chances; the r-th guess is right with chance p_r, where

    p_1 + ... + p_k = 1 - (1 - a) k^-0.43                                                                          (1)

(power law of Sequoia, arXiv 2402.12374, through the first head of Medusa, arXiv 2401.10774: 60 % of the first guesses,
80 % of the first five). Levels are independent; EAGLE-2 itself builds its tree from what the drafter says of each
context, which is a little better.
"""

from __future__ import annotations

from collections.abc import Sequence

GUESS_EXPONENT = 0.43
DRAFT_ACCEPTANCE = 0.70
"""Chance that a draft token is accepted given all before it were (CM384 paper and Ascend recipes: 0.7 of one,
1.44 of three). DeepSeek-V3's report gives 0.85 to 0.90 on its own traffic."""


def tree_nodes(levels: int, topk: int) -> int:
    """Candidates of a tree: topk on the first level, topk^2 on each further one."""
    return (topk + (levels - 1) * topk**2) if levels else 0


def guesses(first: float, topk: int) -> list[float]:
    """Chance that the r-th guess is the right one, r = 1 .. topk, by equation (1)."""
    within = [1.0 - (1.0 - first) * k**-GUESS_EXPONENT for k in range(1, topk + 1)]
    return [p - q for p, q in zip(within, [0.0, *within[:-1]], strict=True)]


def tree_values(acceptance: Sequence[float], topk: int) -> list[float]:
    """Chance of every candidate of a tree that the path down to it is accepted, the likeliest first."""
    level, found = [1.0], []
    for chance in acceptance:
        below = sorted((value * p for value in level for p in guesses(chance, topk)), reverse=True)
        found += below
        level = below[:topk]
    return sorted(found, reverse=True)


def expected_accepted(acceptance: Sequence[float], topk: int = 1, verified: int = 0) -> float:
    """Mean number of accepted drafts per step. acceptance: of the first guess at each position given all before it;
    verified: tokens of the step with the root (0: all candidates)."""
    values = tree_values(acceptance, topk)
    return sum(values[: verified - 1] if verified else values)


def draft_acceptance(draft_tokens: int, topk: int = 1, verified: int = 0) -> float:
    """Mean accepted drafts over drafts (levels of a tree) when each, of the first guesses, is accepted with
    DRAFT_ACCEPTANCE given its predecessors."""
    if draft_tokens <= 0:
        return 0.0
    return expected_accepted([DRAFT_ACCEPTANCE] * draft_tokens, topk, verified) / draft_tokens
