"""Operators of whole layers, of both ends of the model, and of the MTP module."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from supertwin.model.spec import LayerSpec, ModelSpec
from supertwin.workload.attention import attention_operators
from supertwin.workload.block import exchange, gather_in, norm, plain, stream_rows, vector
from supertwin.workload.feed_forward import feed_forward_operators
from supertwin.workload.operators import Communication, Gemm, Operator, Real, Vector, changed
from supertwin.workload.shard import Shard, Step


def layer_operators(model: ModelSpec, layer: LayerSpec, step: Step, shard: Shard) -> list[Operator]:
    """Forward operators of one layer on one device, in order of execution.

    Parts: norm/attention, attention/{gather,qkv,down,q,kv,rope,index,topk,context,core,out,reduce,...}, norm/mlp,
    mlp/{gather,up,act,down,reduce}, moe/{router,shared,dispatch,experts,combine,permute,act,reduce,...}.
    Exchanges that nobody takes part in (groups of one) are left out.
    """
    own = stream_rows(step.tokens(shard), shard)
    ops: list[Operator] = []
    if layer.attention is not None:
        ops.append(norm("norm/attention", own, model.hidden))
        ops += hyper_operators(model, own)
        mixing = attention_operators(model, layer.attention, step, shard)
        ops += drop_reduce(mixing) if layer.parallel else mixing
        ops += sandwich("norm/attention_out", layer, own, model.hidden)
    if layer.feed_forward is not None:
        if not layer.parallel or layer.norms > 1:
            ops.append(norm("norm/mlp", own, model.hidden))
        ops += hyper_operators(model, own)
        block = feed_forward_operators(model, layer.feed_forward, step, shard)
        ops += drop_gather(block) if layer.parallel else block
        ops += sandwich("norm/mlp_out", layer, own, model.hidden)
    if layer.shortcut is not None:
        ops += feed_forward_operators(model, layer.shortcut, step, shard)
    return audible(ops)


def drop_reduce(ops: Iterable[Operator]) -> list[Operator]:
    """Parallel blocks sum attention and feed-forward before one exchange."""
    return [op for op in ops if op.part != "attention/reduce"]


def drop_gather(ops: Iterable[Operator]) -> list[Operator]:
    """Parallel blocks share one gathered input."""
    return [op for op in ops if op.part != "mlp/gather"]


def sandwich(part: str, layer: LayerSpec, rows: Real, width: int) -> list[Operator]:
    """The norm after a block where the layer has four."""
    if layer.norms < 4:
        return []
    values = rows * width
    return [vector(part, "norm", (values, values), flop=4 * values, tokens=rows)]


def hyper_operators(model: ModelSpec, rows: Real) -> list[Operator]:
    """Hyper-connections: a narrow product gives the mixing weights of each token, then the residual streams are mixed
    into one input and the block's output back into the streams (arXiv 2409.19606)."""
    streams = model.hyper_connections
    if streams == 1:
        return []
    values = rows * model.hidden * streams
    mixes = float((2 + streams) * streams)
    return [
        plain("norm/hyper", rows, (float(streams * model.hidden), mixes)),
        vector("norm/hyper", "norm", (2 * values, values), flop=values * 2 * (streams + 2), tokens=rows),
    ]


def audible(ops: Iterable[Operator]) -> list[Operator]:
    """Without the exchanges that are empty everywhere."""
    return [op for op in ops if not (isinstance(op, Communication) and _empty(op.message_bytes))]


def _empty(size: Real) -> bool:
    return not np.any(size) if isinstance(size, np.ndarray) else size == 0


def model_operators(model: ModelSpec, step: Step, shard: Shard) -> list[Operator]:
    """Forward operators of all layers; equal layers are one set of operators with their count."""
    return [
        changed(op, count=op.count * layer.count)
        for layer in model.layers
        for op in layer_operators(model, layer, step, shard)
    ]


def embedding_operators(model: ModelSpec, step: Step, shard: Shard) -> list[Operator]:
    """Look-up in a table cut over the vocabulary, summed over tp; learned positions are added in the same pass."""
    rows = step.tokens(shard)
    reads = 2 if model.positions == "learned" else 1
    values = rows * model.hidden
    op = "reduce_scatter" if shard.sequence_parallel else "all_reduce"
    return audible(
        [
            vector("embedding/lookup", "embedding", (reads * values, values), tokens=rows),
            exchange("embedding/reduce", op, "tp", values * 2.0, shard.tp),
        ]
    )


def head_operators(model: ModelSpec, step: Step, shard: Shard) -> list[Operator]:
    """Final norm and LM head with loss (training: cross entropy cut over the vocabulary, arXiv 1909.08053) or with
    sampling (inference: the last token of each prefilled sequence, every token of a decode step)."""
    rows = step.sequences * 1.0 if step.phase == "prefill" else step.tokens(shard)
    own = stream_rows(step.tokens(shard), shard)
    columns = model.vocab / shard.tp
    ops: list[Operator] = [norm("head/norm", own, model.hidden)]
    if step.phase == "train":
        ops += gather_in("head/gather", rows, model.hidden, shard)
    ops.append(Gemm(part="head/logits", m=rows, n=columns, k=float(model.hidden), dtype=shard.head_dtype))
    ops += loss_operators(rows, columns, shard) if step.phase == "train" else sampling_operators(model, rows, shard)
    return audible(ops)


def loss_operators(rows: Real, columns: Real, shard: Shard) -> list[Operator]:
    """Softmax cross entropy in FP32 over the local columns; maximum, sum and target logit are reduced over tp."""
    logits = rows * columns
    scalar = rows * 4.0
    loss = Vector(part="head/loss", op="loss", bytes_read=logits * 6.0, bytes_written=logits * 4.0, flop=logits * 6)
    return [loss, *[exchange("head/loss_reduce", "all_reduce", "tp", scalar, shard.tp) for _ in range(3)]]


def sampling_operators(model: ModelSpec, rows: Real, shard: Shard) -> list[Operator]:
    """Logits are gathered over tp and one token is drawn per row."""
    logits = rows * model.vocab
    return [
        exchange("head/gather", "all_gather", "tp", logits * 2.0, shard.tp),
        Vector(
            part="head/sample",
            op="sampling",
            bytes_read=logits * 4.0,
            bytes_written=rows * 8.0,
            flop=logits * 8,
            tokens=rows,
        ),
    ]


def mtp_operators(model: ModelSpec, step: Step, shard: Shard) -> list[Operator]:
    """One MTP module: two norms, the joining matrix (2 hidden -> hidden), one layer and the shared head
    (arXiv 2412.19437 section 2.2). Empty when the model has none."""
    if model.mtp is None:
        return []
    own = stream_rows(step.tokens(shard), shard)
    hidden = model.hidden
    join: list[Operator] = [
        norm("mtp/norm", own, hidden),
        Gemm(
            part="mtp/join",
            m=own,
            n=float(hidden),
            k=2.0 * hidden,
            dtype=shard.linear_dtype,
            weight_dtype=shard.weight_dtype,
        ),
    ]
    body = [changed(op, part=f"mtp/{op.part}") for op in layer_operators(model, model.mtp, step, shard)]
    head = [changed(op, part=f"mtp/{op.part}") for op in head_operators(model, step, shard)]
    return [*join, *body, *head]
