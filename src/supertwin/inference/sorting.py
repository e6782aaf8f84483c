"""Choice of keys in the lightning indexer on Ascend: sorted by the vector cores inside the kernel that scores them.

Every core sorts the blocks of keys that it scored, S keys per query in all:

(so that the longer of the two hides the other: pieces.hidden_sort)

    910B, 910C  (4.36 S + 3.32 k) / 2 cycles     (cann-recipes-infer, DeepSeek-V3.2 operator guide; 2: two cores)
    950         111 S / 256 + 192                (the same, DeepSeek-V4 operator guide)

On 910B and 910C the lists of the P = cores / sequences cores that share a sequence are then merged by the two vector
cores beside the first of them, one query each: (0.36 E + 3.32 k) / 2 cycles and 8 E bytes at a core's share of the
bandwidth, E = min(S, P k) (ops-transformer, lightning_indexer_kernel_arch22.h: ProcessLD).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from supertwin.machine.chip import Chip
from supertwin.workload.operators import Operator, Real, Vector
from supertwin.workload.shard import Step, maximum, minimum

MERGE = "merge"
_BLOCKWISE = ("da-vinci-310x",)


def with_sorting(operators: Sequence[Operator], topk: int, step: Step, chip: Chip) -> list[Operator]:
    """Operators of a layer with its choice of keys inside the scoring kernel. topk: keys that are kept."""
    out: list[Operator] = []
    for o in operators:
        out += _sorted(o, topk, step, chip) if isinstance(o, Vector) and o.op == "topk" else [o]
    return out


def _sorted(o: Vector, topk: int, step: Step, chip: Chip) -> list[Operator]:
    keys: Real = o.flop / (2.0 * maximum(o.tokens, 1e-9))
    kept = minimum(keys, float(topk))
    if chip.architecture in _BLOCKWISE:
        cycles: Real = o.tokens * (111.0 / 256.0 * keys + 192.0)
    else:
        cycles = o.tokens * (4.36 * keys + 3.32 * kept) / 2.0
    per_cycle = chip.vector_flop_per_s / (chip.clock_hz * 2.0 * chip.matrix_cores)  # of a vector core
    nothing: Real = 0.0 * o.bytes_read
    choice = replace(o, bytes_read=nothing, bytes_written=nothing, flop=per_cycle * cycles, fused=True)
    if step.phase != "decode" or chip.architecture in _BLOCKWISE:
        return [choice]
    alone = 2.0 * chip.matrix_cores * _merging(keys, kept, step, chip)
    return [choice, replace(choice, part=o.part.replace("topk", MERGE), flop=per_cycle * alone)]


def _merging(keys: Real, kept: Real, step: Step, chip: Chip) -> Real:
    """Cycles that all other cores wait for the lists of one sequence to be merged."""
    cores = float(chip.matrix_cores)
    joined = minimum(keys, maximum(cores / step.sequences, 1.0) * kept)
    several = minimum((joined - kept) / maximum(kept, 1.0), 1.0)
    byte_cycles = chip.clock_hz / (chip.memory_bytes_per_s / cores)
    per_query = (0.36 * joined + 3.32 * kept) / 2.0 + 8.0 * joined * byte_cycles
    return maximum(step.q_len / 2.0, 1.0) * several * per_query
