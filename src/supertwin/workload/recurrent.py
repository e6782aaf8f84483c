"""Operators of recurrent token mixing: gated delta net, Kimi delta attention, Mamba-2.

In training and prefill the recurrence runs in chunks of C tokens: products inside a chunk and products with the
d_k x d_v state between chunks (arXiv 2406.06484 section 3 and 2412.06464 for the delta rule, 2405.21060 section 6 for
Mamba-2). In decode the state is read, updated and written once per token; it is kept in FP32 (mamba_ssm_dtype).
"""

from __future__ import annotations

from supertwin.model.spec import AttentionSpec, ModelSpec
from supertwin.workload.block import exchange, gather_in, linear, plain, reduce_out, vector
from supertwin.workload.operators import Operator, Real, Vector
from supertwin.workload.shard import Shard, Step, ceiling, maximum

CHUNK = {"linear": 64.0, "mamba": 128.0}  # block sizes of the public chunked kernels
STATE_BYTES = 4.0


def recurrent_operators(model: ModelSpec, block: AttentionSpec, step: Step, shard: Shard) -> list[Operator]:
    """Forward operators of one recurrent block."""
    rows, hidden = step.tokens(shard), model.hidden
    key_heads = maximum(ceiling(block.linear_key_heads / shard.tp), 1.0)
    value_heads = ceiling(block.linear_value_heads / shard.tp)
    key, value = key_heads * block.linear_key_head_dim, value_heads * block.linear_value_head_dim
    mixed = rows * (2 * key + value)
    ops = gather_in("attention/gather", rows, hidden, shard)
    ops += projections(block, rows, hidden, (key, value, value_heads), shard)
    ops.append(vector("attention/conv", "conv", (mixed, mixed), flop=2 * block.conv_kernel * mixed, tokens=rows))
    ops += scan(block, step, shard, (key_heads, value_heads))
    if step.phase == "prefill":  # ranks that share a prompt start from the states of those before (LASP-2, 2502.07563)
        states = step.sequences * state_values(block, shard) * STATE_BYTES
        ops.append(exchange("attention/state", "all_gather", "cp", states * shard.cp, shard.cp))
    ops.append(vector("attention/gate", "norm", (2 * rows * value, rows * value), flop=8 * rows * value, tokens=rows))
    ops.append(linear("attention/out", rows, (value, hidden), shard))
    return ops + reduce_out("attention/reduce", rows, hidden, shard)


def projections(
    block: AttentionSpec, rows: Real, hidden: int, widths: tuple[Real, Real, Real], shard: Shard
) -> list[Operator]:
    """One fused input matrix (queries, keys, values, full-rank gate, per-head scalars) and the low-rank maps."""
    key, value, heads = widths
    full_gate = value if block.gate and not block.gate_rank else 0.0
    scalars = heads if block.kind == "mamba" or block.decay_rank else 2 * heads
    low = block.gate_rank + block.decay_rank
    ops: list[Operator] = [linear("attention/qkv", rows, (hidden, 2 * key + value + full_gate + scalars + low), shard)]
    if block.decay_rank:
        ops.append(linear("attention/decay", rows, (block.decay_rank, key), shard))
    if block.gate_rank:
        ops.append(linear("attention/gate", rows, (block.gate_rank, value), shard))
    return ops


def state_values(block: AttentionSpec, shard: Shard) -> Real:
    """Numbers in the recurrent state of one sequence on one device."""
    return ceiling(block.linear_value_heads / shard.tp) * block.linear_key_head_dim * block.linear_value_head_dim


def state_bytes(block: AttentionSpec, shard: Shard) -> Real:
    """Bytes of recurrent and convolution state of one sequence on one device."""
    channels = (2 * block.linear_key_heads * block.linear_key_head_dim) / shard.tp
    channels = channels + block.linear_value_heads * block.linear_value_head_dim / shard.tp
    return state_values(block, shard) * STATE_BYTES + channels * maximum(block.conv_kernel - 1, 0) * 2.0


def scan(block: AttentionSpec, step: Step, shard: Shard, heads: tuple[Real, Real]) -> list[Operator]:
    """The recurrence itself."""
    if step.phase == "decode":
        return [step_by_step(block, step, shard)]
    rows = step.tokens(shard)
    key_dim, value_dim, chunk = block.linear_key_head_dim, block.linear_value_head_dim, CHUNK[block.kind]
    chunks = rows / chunk
    if block.kind == "mamba":
        # scores are shared by the heads of a group
        inside = [
            plain("attention/scan", chunk, (key_dim, chunk), chunks * heads[0]),
            plain("attention/scan", chunk, (chunk, value_dim), chunks * heads[1]),
        ]
        between = 2 * key_dim
    else:
        # scores and the triangular inverse, then the inverse applied to keys and values, then the output
        inside = [
            plain("attention/scan", chunk, (2 * key_dim + chunk, chunk), chunks * heads[1]),
            plain("attention/scan", chunk, (chunk, key_dim + 2 * value_dim), chunks * heads[1]),
        ]
        between = 3 * key_dim
    states = chunks * heads[1] * key_dim * value_dim
    return [
        *inside,
        plain("attention/scan", chunk, (between, value_dim), chunks * heads[1]),
        Vector(part="attention/scan", op="scan", bytes_read=states * 2.0, bytes_written=states * 2.0, flop=2 * states),
    ]


def step_by_step(block: AttentionSpec, step: Step, shard: Shard) -> Vector:
    """Decode: the state is read and written once per sequence, and updated once per token."""
    states = step.sequences * state_values(block, shard)
    per_token = 7.0 if block.kind == "linear" else 5.0
    return Vector(
        part="attention/scan",
        op="scan",
        bytes_read=states * STATE_BYTES,
        bytes_written=states * STATE_BYTES,
        flop=per_token * states * step.q_len,
    )
