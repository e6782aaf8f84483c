"""Number formats by part of the model, where they are not those of one checkpoint.

A part's matrices are stored in its weight format and multiplied in what weight and activation format mean on the chip
(computed_in: wide activations, or a format that the chip lacks, are weight-only). Batched maps of latent attention, the
router and the indexer stay in BF16, as in all recipes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from supertwin.inference.case import Deployment
from supertwin.inference.layers import WIDE, Block, computed_in
from supertwin.machine.chip import Chip
from supertwin.workload.operators import Gemm, Operator, changed

_MATRICES = {
    **{f"attention/{name}": "attention" for name in ("down", "q", "kv", "qkv", "out_a", "out", "gate", "decay")},
    "mlp/up": "mlp",
    "mlp/down": "mlp",
    "moe/shared/up": "shared",
    "moe/shared/down": "shared",
    "head/logits": "head",
}


def with_part_formats(blocks: Sequence[Block], deployment: Deployment, chip: Chip) -> tuple[Block, ...]:
    """Blocks with the matrices of each part in its formats; routed experts have theirs from the shard."""
    formats = {part: computed_in(w, a, chip) for part, w, a in deployment.part_dtypes if part != "experts"}
    return tuple(replace(block, operators=tuple(_in(o, formats) for o in block.operators)) for block in blocks)


def _in(o: Operator, formats: dict[str, tuple[str, str]]) -> Operator:
    found = formats.get(_MATRICES.get(o.part.removeprefix("mtp/"), "")) if isinstance(o, Gemm) else None
    if found is None or not isinstance(o, Gemm):
        return o
    dtype, weight = found
    return changed(o, dtype=dtype, weight_dtype=weight, quantize_input=dtype not in WIDE)
