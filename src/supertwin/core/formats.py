"""Number formats: bytes per element as stored (block scales included) and the matrix-engine rate that they use."""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.core.errors import UnknownName


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """A storage and compute format.

    bytes_per_element includes block scales (fp8-blockwise: one FP32 per 128; MX: one byte per 32; NVFP4: one per 16).
    rate names the entry of `Chip.peak_flop_per_s` that a matrix product in this format uses.
    """

    name: str
    bytes_per_element: float
    rate: str


_FORMATS = {
    f.name: f
    for f in (
        NumberFormat("fp32", 4.0, "fp32"),
        NumberFormat("tf32", 4.0, "tf32"),
        NumberFormat("bf16", 2.0, "bf16"),
        NumberFormat("fp16", 2.0, "fp16"),
        NumberFormat("int8", 1.0, "int8"),
        NumberFormat("fp8", 1.0, "fp8"),
        NumberFormat("fp8-tensorwise", 1.0, "fp8"),
        NumberFormat("fp8-rowwise", 1.0, "fp8"),
        NumberFormat("fp8-blockwise", 1.0 + 4.0 / 128.0, "fp8"),
        NumberFormat("mxfp8", 1.0 + 1.0 / 32.0, "fp8"),
        NumberFormat("int4", 0.5 + 2.0 / 128.0, "int4"),
        NumberFormat("mxfp4", 0.5 + 1.0 / 32.0, "fp4"),
        NumberFormat("nvfp4", 0.5 + 1.0 / 16.0, "fp4"),
    )
}


def number_format(name: str) -> NumberFormat:
    """Look a format up. Raises UnknownName."""
    try:
        return _FORMATS[name]
    except KeyError:
        raise UnknownName("number format", name, _FORMATS) from None


def format_names() -> list[str]:
    """All legal names, sorted."""
    return sorted(_FORMATS)
