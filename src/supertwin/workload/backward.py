"""From the forward operators of a list to those of its backward pass."""

from __future__ import annotations

from collections.abc import Sequence

from supertwin.core.errors import InputError
from supertwin.workload.operators import Attention, Communication, ExpertMlp, Gemm, Operator, Vector, changed

_TRANSPOSED = {
    "all_gather": "reduce_scatter",
    "reduce_scatter": "all_gather",
    "dispatch": "combine",
    "combine": "dispatch",
}
_LINEAR = {"rope", "permute", "copy", "add"}  # the gradient needs no saved input


def backward(ops: Sequence[Operator], *, weight_gradients: bool = True) -> list[Operator]:
    """Backward operators in reverse order.

    A product C = A B gives dA = dC B^T (dgrad) and dB = A^T dC (wgrad, accumulated in FP32); attention its backward
    kernel; a vector operator reads its saved input and the gradient and writes the gradient of each input;
    all-gather and reduce-scatter, dispatch and combine swap. With sequence parallelism the gathered input is not kept
    and is gathered again for the weight gradient (arXiv 2205.05198 section 4.2.2): parts that end in `_again`.
    Context parallelism moves keys and values again, and their gradients.
    weight_gradients: False for frozen weights (LoRA).
    Raises InputError for ExpertMlp, which has no backward form (use grouped products: Shard.fused_experts = False).
    """
    result: list[Operator] = []
    for op in reversed(ops):
        result += _backward_of(op, weight_gradients)
    return result


def _backward_of(op: Operator, weight_gradients: bool) -> list[Operator]:
    if isinstance(op, Gemm):
        return _product(op, weight_gradients)
    if isinstance(op, Attention):
        return [changed(op, direction="bwd")]
    if isinstance(op, Vector):
        return [_vector(op)]
    if isinstance(op, Communication):
        return _communication(op, weight_gradients)
    if isinstance(op, ExpertMlp):
        raise InputError("a fused expert call has no backward pass: build the layer with fused_experts=False")
    raise InputError(f"no backward form of {type(op).__name__}")


def _product(op: Gemm, weight_gradients: bool) -> list[Operator]:
    dgrad = changed(op, n=op.k, k=op.n, direction="dgrad")
    wgrad = changed(op, m=op.k, k=op.m, direction="wgrad", out_dtype="fp32", weight_dtype="", quantize_input=False)
    return [dgrad, wgrad] if weight_gradients else [dgrad]


def _vector(op: Vector) -> Vector:
    if op.op == "loss":
        # the saved softmax (FP32) in, the BF16 gradient of the logits out
        return changed(op, bytes_read=op.bytes_written, bytes_written=op.bytes_written / 2)
    read = op.bytes_written if op.op in _LINEAR else op.bytes_read + op.bytes_written
    return changed(op, bytes_read=read, bytes_written=op.bytes_read, flop=2 * op.flop)


def _communication(op: Communication, weight_gradients: bool) -> list[Operator]:
    if op.part.endswith("loss_reduce"):
        return []  # the gradient of the loss needs no exchange
    turned = changed(op, op=_TRANSPOSED.get(op.op, op.op))
    if op.axis in ("cp", "cp_outer") and op.op == "p2p":
        return [changed(op, message_bytes=2.0 * op.message_bytes)]
    if op.axis == "cp" and op.op == "all_gather":
        return [op, turned]
    again = op.op == "all_gather" and op.axis == "tp" and weight_gradients
    return [changed(op, part=f"{op.part}_again"), turned] if again else [turned]
