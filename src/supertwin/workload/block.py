"""Short constructors of the operators that every block uses. All shapes are those of one device."""

from __future__ import annotations

from supertwin.core.formats import number_format
from supertwin.workload.operators import Communication, Gemm, Operator, Real, Vector
from supertwin.workload.shard import Shard, present

BF16_BYTES = 2.0
WIDE = {"bf16", "fp16", "fp32", "tf32"}


def linear(part: str, rows: Real, shape: tuple[Real, Real], shard: Shard, groups: Real = 1.0) -> Gemm:
    """A projection of `rows` tokens with a weight of shape (k, n), in the format of the dense matrices."""
    return Gemm(
        part=part,
        m=rows,
        n=shape[1],
        k=shape[0],
        groups=groups,
        dtype=shard.linear_dtype,
        weight_dtype=shard.weight_dtype,
        quantize_input=shard.quantize_input and shard.linear_dtype not in WIDE,
    )


def plain(part: str, rows: Real, shape: tuple[Real, Real], groups: Real = 1.0) -> Gemm:
    """A BF16 product that no recipe quantises (router, indexer weights, batched latent maps)."""
    return Gemm(part=part, m=rows, n=shape[1], k=shape[0], groups=groups)


def vector(
    part: str, op: str, values: tuple[Real, Real], flop: Real = 0.0, fused: bool = False, tokens: Real = 0.0
) -> Vector:
    """Vector work over (read, written) BF16 values of `tokens` rows."""
    return Vector(
        part=part,
        op=op,
        bytes_read=values[0] * BF16_BYTES,
        bytes_written=values[1] * BF16_BYTES,
        flop=flop,
        fused=fused,
        tokens=tokens,
    )


def norm(part: str, rows: Real, width: Real) -> Vector:
    """Residual add and norm in one pass: reads the block's output and the stream, writes the stream and the input."""
    values = rows * width
    return vector(part, "norm", (2 * values, 2 * values), flop=5 * values, tokens=rows)


def exchange(part: str, op: str, axis: str, message_bytes: Real, size: Real) -> Communication:
    """A collective; its message is empty where the group has one member."""
    return Communication(part=part, op=op, axis=axis, message_bytes=message_bytes * present(size))


def gather_in(part: str, rows: Real, width: Real, shard: Shard) -> list[Operator]:
    """Before a column-cut matrix: all-gather of the sequence-parallel input, nothing otherwise."""
    if not shard.sequence_parallel:
        return []
    return [exchange(part, "all_gather", "tp", rows * width * BF16_BYTES, shard.tp)]


def reduce_out(part: str, rows: Real, width: int, shard: Shard) -> list[Operator]:
    """After a row-cut matrix: reduce-scatter with sequence parallelism, all-reduce without."""
    op = "reduce_scatter" if shard.sequence_parallel else "all_reduce"
    return [exchange(part, op, "tp", rows * width * BF16_BYTES, shard.tp)]


def stream_rows(rows: Real, shard: Shard) -> Real:
    """Tokens that a device holds between blocks."""
    return rows / shard.tp if shard.sequence_parallel else rows


def bytes_of(dtype: str) -> float:
    """Bytes per element of a number format, scales included."""
    return number_format(dtype).bytes_per_element
