"""A chip as the rest of the program sees it: one *device* (a die on Ascend, a GPU or TPU chip elsewhere)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from supertwin.core.units import UNITS

_WIDER: Mapping[str, tuple[str, ...]] = {
    "fp4": ("fp4", "fp8", "bf16", "fp16"),
    "int4": ("int4", "int8", "fp16", "bf16"),
    "int8": ("int8", "fp16", "bf16"),
    "fp8": ("fp8", "bf16", "fp16"),
    "bf16": ("bf16", "fp16"),
    "fp16": ("fp16", "bf16"),
    "tf32": ("tf32", "fp32"),
    "fp32": ("fp32",),
}


@dataclass(frozen=True, slots=True)
class Cited:
    """One value of the catalogue with where it comes from.

    kind is spec (data sheet), assumption (ours, with author and reason) or inferred (computed from cited values).
    alternatives are the conflicting readings that were not chosen (kind refuted: contradicted by primary sources);
    note says why this one was.
    """

    value: float
    unit: str
    source: str
    kind: str = "spec"
    note: str = ""
    alternatives: tuple[Cited, ...] = ()


def stated(cited: Cited) -> str:
    """A value in the unit in which its source states it: 989.4e12 of unit TFLOP/s is "989.4 TFLOP/s".

    The text can be read back with core.units.parse_quantity (six significant digits).
    """
    return f"{cited.value / UNITS[cited.unit][0]:.6g} {cited.unit}"


def readings(cited: Cited) -> tuple[Cited, ...]:
    """The chosen value first, then the readings that were not chosen; those of kind refuted are left out."""
    return (cited, *(other for other in cited.alternatives if other.kind != "refuted"))


@dataclass(frozen=True, slots=True)
class Chip:
    """What one device can do at most. All values SI; rates are dense and per device; bandwidth is one direction.

    peak_flop_per_s: by rate name (fp32 tf32 bf16 fp16 fp8 int8 fp4 int4); a missing rate means no hardware for it.
    relative: chip whose operator calibration is inherited when this one has none.
    sibling: chip with the same die, whose calibration completes this one's before the relative's does.
    cited: every field of the TOML by dotted name, for --explain.
    printed_memory_bytes: capacity as the data sheet prints it (64 GB); memory_bytes is in true bytes (64 GiB).
    vector_cores: separate vector cores (AIV); 0 where the vector units sit inside the matrix cores.
    system: name of the system that the chip is normally found in.
    """

    name: str
    title: str
    vendor: str  # nvidia | huawei | amd | google | intel | other
    architecture: str  # hopper, blackwell, ampere, da-vinci-220x, cdna3, tpu-v5p ...
    peak_flop_per_s: Mapping[str, float]
    vector_flop_per_s: float
    matrix_cores: int  # SM, AIC core, CU, TensorCore: what a wave of tiles is spread over
    clock_hz: float
    memory_bytes: float
    memory_bytes_per_s: float
    usable_memory_bytes: float  # after the runtime's and driver's share
    l2_bytes: float
    l2_bytes_per_s: float
    devices_per_package: int
    tdp_w: float  # per device
    idle_w: float
    relative: str = ""
    cited: Mapping[str, Cited] = field(default_factory=dict)
    printed_memory_bytes: float = 0.0
    vector_cores: int = 0
    system: str = ""
    sibling: str = ""

    def peak(self, rate: str) -> float:
        """Dense peak in FLOP/s for a rate name. Raises KeyError where nothing as wide is multiplied."""
        return self.peak_flop_per_s[self.multiplied(rate)]

    def multiplied(self, rate: str) -> str:
        """The rate at which a format is multiplied: its own, or that of the next wider one that has hardware.

        fp4 -> fp8 -> bf16 -> fp16; int4 -> int8 -> fp16; fp8 -> bf16; bf16 <-> fp16; tf32 -> fp32. Raises KeyError.
        """
        for name in _WIDER[rate]:
            if name in self.peak_flop_per_s:
                return name
        raise KeyError(rate)
