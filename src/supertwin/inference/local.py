"""Dense matrices cut over a few attention ranks although attention itself is data parallel.

At small batches every rank would read all of them. Ranks come together around one matrix and part after it:

    dense MLP    all_gather of tokens, up cut by columns, down by rows, reduce_scatter
    output       copy by rank, all_to_all (tokens of all ranks, heads of one), cut by rows, reduce_scatter
    head         all_gather of tokens, cut by columns, all_to_all of the logits

cann-recipes-infer: dense_tp_size, o_proj_tp_size and lmhead_tp_size of parallel_config (docs/models/longcat_flash).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from supertwin.core.errors import InputError
from supertwin.inference.case import Deployment
from supertwin.model.spec import ModelSpec
from supertwin.workload.operators import Communication, Gemm, Operator, Real, Vector

AXIS = "local"
_BF16 = 2.0
_ROLES = {
    "mlp/up": ("dense", "first"),
    "mlp/down": ("dense", "last"),
    "attention/out": ("output", "only"),
    "head/logits": ("head", "head"),
}


def widths(deployment: Deployment) -> dict[str, int]:
    """Ranks over which each kind of matrix is cut, where more than one."""
    asked = {"dense": deployment.dense_tp, "output": deployment.output_tp, "head": deployment.head_tp}
    return {name: n for name, n in asked.items() if n > 1}


def check_widths(deployment: Deployment) -> None:
    """Raise InputError where the attention ranks do not divide into such groups."""
    for name, n in widths(deployment).items():
        if deployment.tp > 1 or deployment.dp % n:
            raise InputError(
                f"{name}_tp = {n}: cuts a matrix over attention ranks of one device each, so tp must be 1 (given "
                f"{deployment.tp}) and {name}_tp must divide dp (given {deployment.dp})"
            )


def saved_parameters(model: ModelSpec, groups: Mapping[str, int]) -> tuple[float, float]:
    """Weights that a device holds less than with whole matrices: (of all layers, of the head)."""
    kept = {name: 1.0 - 1.0 / groups.get(name, 1) for name in ("dense", "output", "head")}
    layers = 0.0
    for layer in model.layers:
        block, f = layer.attention, layer.feed_forward
        if block is not None and not block.output_lora_rank and block.kind in ("gqa", "mla"):
            layers += kept["output"] * block.heads * block.v_head_dim * model.hidden * layer.count
        if f is not None and not f.experts:
            layers += kept["dense"] * (3 if f.gated else 2) * f.inter * model.hidden * layer.count
    return layers, 0.0 if model.tied_embeddings else kept["head"] * model.vocab * model.hidden


def cut_locally(operators: Sequence[Operator], groups: Mapping[str, int]) -> list[Operator]:
    """Operators of one rank with the dense matrices of `groups` (see widths) cut, and their exchanges."""
    out: list[Operator] = []
    for o in operators:
        kind, place = _ROLES.get(o.part.removeprefix("mtp/"), ("", ""))
        if not isinstance(o, Gemm) or kind not in groups:
            out.append(o)
            continue
        out += _cut(o, groups[kind], place)
    return out


def _cut(o: Gemm, size: int, place: str) -> list[Operator]:
    tokens = o.m * size
    given, made = tokens * o.k * _BF16, tokens * o.n * _BF16

    def exchange(op: str, message_bytes: Real) -> Communication:
        return Communication(part=o.part, op=op, axis=f"{AXIS}{size}", message_bytes=message_bytes)

    if place == "first":
        return [exchange("all_gather", given), replace(o, m=tokens, n=o.n / size)]
    if place == "last":
        return [replace(o, m=tokens, k=o.k / size), exchange("reduce_scatter", made)]
    if place == "only":
        moved = given / size
        turned = Vector(part=o.part, op="copy", bytes_read=moved, bytes_written=moved, tokens=o.m * size)
        there, back = exchange("all_to_all", moved), exchange("reduce_scatter", made)
        return [turned, there, replace(o, m=tokens, k=o.k / size), back]
    return [exchange("all_gather", given), replace(o, m=tokens, n=o.n / size), exchange("all_to_all", made / size)]
