"""Casts around matrix products in low precision: what quantisation kernels read and write (Transformer Engine).

Every product reads its moving operand (input, or gradient of the output) in the narrow format, along rows for its own
product and along columns for the weight gradient. Bytes per element of a cast that stands alone:

    scale known before (delayed scaling, MXFP8, blocks)    2 read, one copy along rows and one along columns written
    scale from the tensor itself (current scaling, rows)   the same after a pass that looks for the largest value: +2
    NVFP4                                                  the same (second-level scale), copies of half a byte

Blackwell multiplies FP8 operands in any layout, so per-tensor scaling writes one copy there. A cast whose scale is
known before is part of the norm kernel that makes the operand (TE LayerNormLinear; NVTE_NORM_FWD_USE_CUDNN for MXFP8);
all others read BF16. With sequence parallelism operands are cast before they are gathered. One XLA or torch.compile
program fuses casts into the kernels around.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from supertwin.core.formats import number_format
from supertwin.workload.block import WIDE
from supertwin.workload.operators import Gemm, Operator, Vector, changed

_AFTER_NORM = ("attention/qkv", "attention/down", "mlp/up")
_GATHERED = {
    "fwd": ("attention/qkv", "mlp/up", "moe/shared/up"),
    "dgrad": ("attention/out", "mlp/down", "moe/shared/down"),
}
_ANY_LAYOUT = "blackwell"
_LOOKS_FIRST = ("fp8-rowwise", "nvfp4")


@dataclass(frozen=True, slots=True)
class Casts:
    """How a job casts. looks_first: per-tensor scales come from the tensor itself (current scaling); one_layout: the
    chip multiplies FP8 along rows only; shared_by: ranks that cast a gathered operand together; fused: the compiler
    joins casts with their neighbours (dense matrices); fused_experts: one grouped product with activation and cast of
    its result (TE ForwardGroupedMLP_CuTeGEMMSwiGLU_MXFP8)."""

    looks_first: bool = True
    one_layout: bool = True
    shared_by: int = 1
    fused: bool = False
    fused_experts: bool = False


def casts_of(architecture: str, scaling: str, launch: str, shared_by: int) -> Casts:
    """Casts of a job. scaling: delayed | current."""
    return Casts(scaling == "current", not architecture.startswith(_ANY_LAYOUT), shared_by, launch == "compiled")


def cast_list(operators: Sequence[Operator], casts: Casts) -> list[Operator]:
    """Operators of a pass with their casts; fused experts lose their activation and the cast of its result."""
    if not casts.fused_experts and not any(_is_narrow(operator) for operator in operators):
        return list(operators)
    result: list[Operator] = []
    inner = False
    for operator in operators:
        if casts.fused_experts and operator.part == "moe/act":
            continue
        expert = _is_narrow(operator) and operator.part.endswith("moe/experts")
        if casts.fused_experts and expert:
            result += [operator] if inner else [*with_casts(operator, casts)[:-1], operator]
            inner = True
        else:
            result += with_casts(operator, casts)
    return result


def _is_narrow(operator: Operator) -> bool:
    return isinstance(operator, Gemm) and operator.dtype not in WIDE


def cast_bytes(dtype: str, casts: Casts) -> tuple[float, float]:
    """Bytes read and written per element by a cast that stands alone."""
    size = number_format(dtype).bytes_per_element
    tensorwise = dtype in ("fp8", "fp8-tensorwise")
    looks = dtype in _LOOKS_FIRST or (tensorwise and casts.looks_first)
    copies = 1.0 if tensorwise and not casts.one_layout else 2.0
    return (4.0 if looks else 2.0), copies * size


def with_casts(operator: Operator, casts: Casts) -> list[Operator]:
    """A product with the kernel that quantises its moving operand, experts one by one. The weight-gradient product
    takes the copies that the other two have made."""
    product = one_by_one(operator)
    if not isinstance(operator, Gemm) or operator.dtype in WIDE or operator.direction == "wgrad":
        return [product]
    experts = operator.part.endswith("moe/experts")
    read, written = cast_bytes(operator.dtype, casts)
    if not experts and (casts.fused or (read <= 2.0 and _made_by_norm(operator))):
        return [product]
    gathered = operator.part in _GATHERED.get(operator.direction, ())
    values = operator.m * operator.k * operator.groups / (casts.shared_by if gathered else 1)
    cast = Vector(
        part=operator.part,
        count=operator.count,
        op="quantize",
        bytes_read=read * values,
        bytes_written=written * values,
        flop=2.0 * values,
    )
    return [cast, product]


def _made_by_norm(operator: Gemm) -> bool:
    return operator.direction == "fwd" and operator.part in _AFTER_NORM


def one_by_one(operator: Operator) -> Operator:
    """Low-precision experts run as one cuBLAS call each, on a few streams (Transformer Engine, GroupedLinear)."""
    if isinstance(operator, Gemm) and _is_narrow(operator) and operator.part.endswith("moe/experts"):
        return changed(operator, groups=1.0, count=operator.count * operator.groups)
    return operator
