"""What fits the memory: the largest batch of a deployment, and the nearest deployments to one that does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

from supertwin.core.errors import SupertwinError
from supertwin.core.formats import number_format
from supertwin.core.prediction import Memory, Prediction
from supertwin.inference.case import InferenceCase
from supertwin.inference.engines import Engine, engine
from supertwin.inference.placement import moe
from supertwin.inference.predict import memory, predict
from supertwin.machine import with_devices

MOST_SEQUENCES = 2**20
MOST_CHANGES = 2
MOST_TRIED = 160  # memory checks, about 0.2 ms each
MOST_PRICED = 6
Value = int | float | str


@dataclass(frozen=True, slots=True)
class Fitting:
    """A deployment that fits. changes: option -> new value."""

    case: InferenceCase
    changes: Mapping[str, Value]
    prediction: Prediction

    @property
    def memory(self) -> Memory:
        """Memory of one device."""
        return self.prediction.memory

    @property
    def headroom_bytes(self) -> float:
        """Free bytes of one device."""
        return -self.memory.missing_bytes

    @property
    def step_time_s(self) -> float:
        """Time of one step."""
        return self.prediction.step_time_s

    @property
    def tokens_per_s_per_device(self) -> float:
        """Rate of the deployment."""
        return self.prediction.tokens_per_s_per_device


def largest_fitting_batch(case: InferenceCase) -> float:
    """Most requests per device, whole ones on every attention rank, that the engine's share of the memory holds; 0 when
    not one does. Raises InputError for a case that is not legal."""
    about = engine(case.deployment.framework, case.system.chip)
    unit = 1.0 / case.deployment.rank_devices

    def fits(sequences: int) -> bool:
        return _within(memory(replace(case, batch=sequences * unit)), about)

    if not fits(1):
        return 0.0
    low, high = 1, 2
    while high <= MOST_SEQUENCES and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * unit


def _within(used: Memory, about: Engine) -> bool:
    """Whether the engine admits it: its fraction counts the whole memory, or what weights and activations leave."""
    share = about.memory_fraction
    if about.of_free:
        return used.kv_cache_bytes <= share * (used.capacity_bytes - (used.peak_bytes - used.kv_cache_bytes))
    return used.peak_bytes <= share * used.capacity_bytes


def nearest_fitting(case: InferenceCase, most: int = 5) -> list[Fitting]:
    """Deployments with the fewest changes that fit, fastest per device first; empty when two changes do not do."""
    options, left = list(_options(case)), MOST_TRIED
    for number in range(1, MOST_CHANGES + 1):
        found: list[tuple[dict[str, Value], InferenceCase]] = []
        for chosen in combinations(options, number):
            changes: dict[str, Value] = {}
            for one in chosen:
                changes |= one
            if len(changes) < sum(len(one) for one in chosen) or left <= 0:
                continue
            left -= 1
            changed = _tried(case, changes)
            if changed is not None:
                found.append((changes, changed))
        if found:
            priced = [Fitting(c, _with_machine(changes, c, case), predict(c)) for changes, c in found[:MOST_PRICED]]
            return sorted(priced, key=lambda one: -one.tokens_per_s_per_device)[:most]
    return []


def _options(case: InferenceCase) -> Iterator[dict[str, Value]]:
    """Single changes, the gentlest first: batch, formats, then more devices for one instance."""
    d, chip = case.deployment, case.system.chip
    try:
        batch = largest_fitting_batch(case)
    except SupertwinError:
        batch = 0.0
    if 0.0 < batch < case.batch:
        yield {"batch": batch}
    width = number_format(d.kv_dtype).bytes_per_element
    own = "int8" if chip.vendor == "huawei" else "fp8"
    if width > 1.0:
        yield {"kv_dtype": own}
    for narrow in ("fp8", "int8", "nvfp4", "int4"):
        rate = number_format(narrow).rate
        legal = rate in chip.peak_flop_per_s or narrow == "int4"
        if legal and number_format(narrow).bytes_per_element < number_format(d.weight_dtype).bytes_per_element:
            activation = "bf16" if narrow == "int4" else narrow
            yield {"weight_dtype": narrow, "activation_dtype": activation}
    if d.afd_instances:
        return
    wide = d.dp_attention and moe(case.model) is not None and d.ep > 1
    for factor in (2, 4, 8, 16):
        experts: dict[str, Value] = {"ep": d.ep * factor} if d.ep > 1 else {}
        yield {"tp": d.tp * factor, **experts}
        if wide:
            yield {"dp": d.dp * factor, "ep": d.ep * factor}
    for factor in (2, 4):
        yield {"pp": d.pp * factor}


def _tried(case: InferenceCase, changes: Mapping[str, Value]) -> InferenceCase | None:
    """The changed case, on more devices of the same machine where it needs them; None when not legal or not fitting."""
    fields = {name: value for name, value in changes.items() if name != "batch"}
    deployment = replace(case.deployment, **fields)  # type: ignore[arg-type]
    try:
        system = case.system
        if system.devices % deployment.devices:
            system = with_devices(system, deployment.devices)
        changed = replace(case, deployment=deployment, batch=float(changes.get("batch", case.batch)), system=system)
        return changed if memory(changed).fits else None
    except SupertwinError:
        return None


def _with_machine(changes: dict[str, Value], changed: InferenceCase, asked: InferenceCase) -> Mapping[str, Value]:
    """The changes, and the machine where it has to grow."""
    there = changed.system
    return changes | ({"on": f"{there.name}:{there.devices}"} if there.devices != asked.system.devices else {})
