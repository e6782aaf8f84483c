"""Attention on one device: picks the kernel variant and its calibration, then prices with cost.attention_kernels.

Order of preference for a variant: the requested library's file ("attention-<library>"), the chip's own file
("attention"), the files of its relatives; a variant that is in none takes the nearest one (same phase and direction;
distance in head size, formats, mask and kind), and at last the documented priors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from supertwin.core.errors import UnknownName
from supertwin.cost.attention_kernels import Times, Variant, attention_times, prior_of
from supertwin.cost.calibration import INHERITED_SPREAD, Calibration, read_calibration
from supertwin.cost.geometry import Shape
from supertwin.cost.surface import Surface
from supertwin.machine.chip import Chip
from supertwin.machine.fitted import calibration_folders, first_file, relatives
from supertwin.workload.operators import Attention

# What a use of the chip runs, best first; then the library of the file "attention", which serving engines run first.
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "": (),
    "serving": (),
    "training": ("cudnn", "fa3", "fa2", "aiter", "cann"),
    "trtllm": (),
    "flashinfer": (),
    "vllm": ("sglang",),  # the same FlashAttention 3 and FlashInfer kernels
    **{name: (name,) for name in ("sglang", "fa2", "fa3", "cudnn", "aiter", "cann", "flashmla", "flashinfer-eager")},
}
_KIND_DISTANCE = {frozenset({"gqa", "mla"}): 1.0, frozenset({"mla", "sparse"}): 0.5, frozenset({"gqa", "sparse"}): 1.5}
_NO_MATCH = 50.0
_OTHER_LIBRARY = 0.7  # the wanted library on a relative wins over another library on the chip itself
_STEP_DISTANCE = 0.6  # a kernel of the chip itself wins over one of its relative that is this much nearer in shape
_SPREAD_PER_DISTANCE = 0.15  # assumption: ln half-width added per unit of distance to the variant that stands in


@dataclass(frozen=True, slots=True)
class Kernel:
    """Constants that price a variant, where they come from, and how far the measured variant is from the wanted one."""

    constants: Mapping[str, float]
    surface: Surface | None
    calibration: Calibration
    distance: float = 0.0
    steps: int = 0

    @property
    def spread(self) -> float:
        """90 % half-width of ln(measured / predicted) for this variant."""
        away = _SPREAD_PER_DISTANCE * min(self.distance, 4.0)
        return math.hypot(self.calibration.spread, away, INHERITED_SPREAD * math.sqrt(self.steps))


@dataclass(frozen=True)
class AttentionModel:
    """Attention kernels of one chip. library: "" or serving, training, or one library (trtllm, sglang, fa3 ...).

    Raises UnknownName for any other.
    """

    chip: Chip
    library: str = ""
    _kernels: dict[str, Kernel] = field(default_factory=dict)
    _shelves: list[Shelf] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.library not in LIBRARIES:
            raise UnknownName("attention library", self.library, [name for name in LIBRARIES if name])

    def cost(self, op: Attention) -> Times:
        """Price one operator, or a stack of operators of one kind (fields as arrays)."""
        variant = variant_of(op)
        shape = shape_of(op, variant)
        times = self._times(variant, shape)
        if variant.phase == "decode" and variant.kind == "gqa" and np.any(shape.q_len > 1.0):
            return self._verified(variant, shape, times)
        return times

    def _times(self, variant: Variant, shape: Shape) -> Times:
        kernel = self.kernel(variant)
        return attention_times(self.chip, variant, shape, kernel.constants, kernel.surface)

    def _verified(self, variant: Variant, shape: Shape, times: Times) -> Times:
        """Several new tokens, as when drafts are checked: by the kernel of prompts where that is faster, though never
        faster than one new token."""
        one = self._times(variant, replace(shape, q_len=np.ones_like(shape.q_len))).time_s
        prompt = self._times(replace(variant, phase="prefill"), shape).time_s
        return replace(times, time_s=np.minimum(times.time_s, np.maximum(prompt, one)))

    def kernel(self, variant: Variant) -> Kernel:
        """The calibrated kernel for a variant (cached)."""
        name = variant.name
        if name not in self._kernels:
            self._kernels[name] = self._find(variant)
        return self._kernels[name]

    def calibrations(self) -> list[Calibration]:
        """Files in use, nearest first."""
        return [c for shelf in self._shelf() for c in shelf.files]

    def _shelf(self) -> list[Shelf]:
        if not self._shelves:
            self._shelves.extend(shelves(self.chip, LIBRARIES[self.library]))
        return self._shelves

    def _find(self, variant: Variant) -> Kernel:
        prior = prior_of(variant)
        best, least = Kernel(prior, None, Calibration("attention", self.chip.name)), _NO_MATCH
        for steps, shelf in enumerate(self._shelf()):
            for rank, calibration in enumerate(shelf.files):
                for name, fitted in calibration.parameters.items():
                    distance = variant_distance(variant, name)
                    other = _OTHER_LIBRARY if calibration.family == "attention" and LIBRARIES[self.library] else 0.0
                    total = distance + other + _STEP_DISTANCE * steps + 0.01 * rank
                    if total < least:
                        constants = scaled(variant, {**prior, **fitted}, shelf.chip, self.chip)
                        alike = shelf.chip.vendor == self.chip.vendor
                        surface = calibration.surfaces.get(name) if alike else None
                        best, least = Kernel(constants, surface, calibration, distance, steps), total
        return best


@dataclass(frozen=True, slots=True)
class Shelf:
    """Calibration files of one chip along the chain of relatives."""

    chip: Chip
    files: tuple[Calibration, ...]


def scaled(variant: Variant, constants: Mapping[str, float], measured: Chip, wanted: Chip) -> Mapping[str, float]:
    """Constants measured on one chip, for another.

    Decode of plain attention runs on the vector units in part, so its rate follows them and not the matrix peak.
    Another make of chip: the fixed cost of a tile is kept per device, not per core (a core is another unit of work: 2
    on a TPU, 304 on an MI300X for similar rates), and decode is not held to the vector path of that library.
    """
    out = dict(constants)
    if measured.name != wanted.name and variant.phase == "decode" and variant.kind == "gqa":
        balance = [c.vector_flop_per_s / c.peak("bf16") for c in (measured, wanted)]
        out["rate"] = min(out["rate"] * balance[1] / balance[0], 1.0)
    if measured.vendor != wanted.vendor:
        out["tile_s"] *= wanted.matrix_cores / measured.matrix_cores
        if variant.phase == "decode":
            out["rate"] = max(out["rate"], prior_of(variant)["rate"])
    return out


def variant_of(op: Attention) -> Variant:
    """The kernel that an operator needs. Head size: the (largest) query/key one."""
    qk, v = float(np.max(op.qk_head_dim)), float(np.max(op.v_head_dim))
    kind = "gqa"
    if op.gathered:
        kind = "sparse"
    elif v <= 1.0:
        kind = "indexer"  # scores alone: no value product
    elif v != qk:
        kind = "mla" if op.phase == "prefill" or op.latent else "gqa"
    causal = op.causal or op.phase == "decode"
    return Variant(op.phase, kind, int(qk), op.dtype, op.kv_dtype, causal, op.direction)


def shape_of(op: Attention, variant: Variant) -> Shape:
    """Arrays of the operator. Gathered keys differ from query to query: every query becomes a sequence of its own."""
    names = ("batch", "q_len", "kv_len", "heads", "kv_heads", "qk_head_dim", "v_head_dim", "window")
    batch, q_len, *rest = (np.asarray(getattr(op, name), dtype=np.float64) for name in names)
    if variant.kind == "sparse":
        batch, q_len = batch * q_len, np.ones_like(q_len)
    return Shape(batch, q_len, *rest)


def variant_distance(wanted: Variant, name: str) -> float:
    """How unlike the variant called `name` is: 0 for itself; 50 or more when it cannot stand in."""
    phase, kind, head_dim, query, cache, *marks = name.split("/")
    if phase != wanted.phase or ("bwd" in marks) != (wanted.direction == "bwd"):
        return _NO_MATCH
    distance = 0.0
    if kind != wanted.kind:
        if phase == "prefill" and "sparse" in (kind, wanted.kind):
            return _NO_MATCH  # another formula
        distance += _KIND_DISTANCE.get(frozenset({kind, wanted.kind}), _NO_MATCH)
    size = float(head_dim)
    distance += abs(math.log2(size / wanted.head_dim)) + (0.01 if size < wanted.head_dim else 0.0)
    wanted_query, wanted_cache = wanted.name.split("/")[3:5]
    distance += 0.8 * (query != wanted_query) + 0.5 * (cache != wanted_cache)
    return distance + 0.05 * (("full" in marks) == wanted.causal)


def shelves(chip: Chip, libraries: Sequence[str]) -> list[Shelf]:
    """Per step along the chain of relatives: the files of the wanted libraries, then the default one."""
    families = (*(f"attention-{name}" for name in libraries), "attention")
    found = []
    for current in relatives(chip):
        files = tuple(c for family in families if (c := own_calibration(current.name, family)) is not None)
        found.append(Shelf(current, files))
    return found


def own_calibration(chip: str, family: str) -> Calibration | None:
    """The file of this very chip, not of a relative; None when it has none. Raises TableError."""
    path = first_file(chip, family, calibration_folders())
    return None if path is None else _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, _changed_ns: int) -> Calibration:
    return read_calibration(path)
