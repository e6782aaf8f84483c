"""What each algorithm of a collective costs: rounds of latency and bytes per device on the wire.

Notation: n ranks, S message bytes as in collectives.csv (all_reduce, all_to_all, broadcast: bytes per rank; all_gather
and reduce_scatter: the whole gathered buffer). An algorithm is (rounds, wire): it takes `rounds` latencies in sequence
and each device sends wire x S bytes.

Sources: ring and pairwise, Thakur, Rabenseifner, Gropp 2005 (IJHPCA 19(1), sections 3-4); double binary tree, Sanders,
Speck, Träff 2009 (Parallel Computing 35(12)) as NCCL 2.4 uses it; halving-doubling and recursive (Thakur et al.):
every step exchanges with one partner, so that nearly all bytes take the device's own links; one-shot and two-shot, the
custom all-reduce kernels of TensorRT-LLM, vLLM and SGLang (every rank reads its peers' buffers); nvls, reduction in the
NVSwitch (NCCL 2.17): each device sends its S once to be reduced and S/n once to be multicast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, log2

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "p2p")


@dataclass(frozen=True, slots=True)
class Algorithm:
    """rounds(n) and wire(n) for one algorithm of one operation.

    flow says how the bytes load nested tiers: ring (the wire volume leaves a block of neighbours once, over all of the
    block's links), direct (every rank exchanges with every rank of another block over its own link), once (one stream).
    """

    rounds: Callable[[int], float]
    wire: Callable[[int], float]
    flow: str = "ring"


def tree_depth(n: int) -> int:
    """Levels of a binary tree over n ranks."""
    return ceil(log2(n)) if n > 1 else 0


def _share(n: int) -> float:
    return (n - 1) / n


ALGORITHMS: Mapping[str, Mapping[str, Algorithm]] = {
    "all_reduce": {
        "ring": Algorithm(lambda n: 2 * (n - 1), lambda n: 2 * _share(n)),
        "tree": Algorithm(lambda n: 2 * tree_depth(n), lambda n: 2 * _share(n)),
        "halving-doubling": Algorithm(lambda n: 2 * tree_depth(n), lambda n: 2 * _share(n), "direct"),
        "one-shot": Algorithm(lambda n: n - 1, lambda n: n - 1, "direct"),
        "two-shot": Algorithm(lambda n: n - 1, lambda n: 2 * _share(n), "direct"),
        "direct": Algorithm(lambda n: n - 1, lambda n: 2 * _share(n), "direct"),
        "nvls": Algorithm(lambda _n: 2.0, lambda n: 1 + 1 / n, "direct"),
    },
    "all_gather": {
        "ring": Algorithm(lambda n: n - 1, _share),
        "tree": Algorithm(tree_depth, _share),
        "recursive": Algorithm(tree_depth, _share, "direct"),
        "direct": Algorithm(lambda n: n - 1, _share, "direct"),
    },
    "reduce_scatter": {
        "ring": Algorithm(lambda n: n - 1, _share),
        "tree": Algorithm(tree_depth, _share),
        "recursive": Algorithm(tree_depth, _share, "direct"),
        "direct": Algorithm(lambda n: n - 1, _share, "direct"),
    },
    "all_to_all": {"pairwise": Algorithm(lambda n: n - 1, _share, "direct")},
    "broadcast": {
        "ring": Algorithm(lambda n: n - 1, lambda _n: 1.0),
        "tree": Algorithm(tree_depth, lambda _n: 1.0),
    },
    "p2p": {"direct": Algorithm(lambda _n: 1.0, lambda _n: 1.0, "once")},
}
