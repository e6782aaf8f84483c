"""Strong and weak scaling of one training job over numbers of devices, on its fabric and on others.

Strong: the batch of the job at every size. Weak: the batch grows with the devices. The layout is tuned at every size
(training.tuning), from the one of the size before. Fabrics:

    fabric   the machine as it is
    ideal    the same devices with communication that costs nothing
    nodes    the same devices with a scale-up that ends at the node; what leaves it takes the scale-out network
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from supertwin.machine.system import cut_to_the_node, has_bus_beyond_the_node
from supertwin.machine.systems import with_devices
from supertwin.training.case import TrainingCase
from supertwin.training.changes import PLAIN
from supertwin.training.tuning import Tuned, Tuner, with_sizes

FABRIC, IDEAL, NODES = "fabric", "ideal", "nodes"
FABRICS = (FABRIC, IDEAL, NODES)
KINDS = ("strong", "weak")
FREE = (0.0, 0.0)
_LAYOUT = frozenset({"tp", "pp", "vpp", "micro_batch"})


@dataclass(frozen=True, slots=True)
class ScalingPoint:
    """One size of a curve; tuned is None where no layout is legal or fits."""

    fabric: str
    kind: str  # strong | weak
    devices: int
    global_batch: int
    tuned: Tuned | None

    @property
    def tokens_per_s_per_device(self) -> float:
        """0 where nothing runs."""
        return self.tuned.tokens_per_s_per_device if self.tuned and self.tuned.fits else 0.0


def curve(
    case: TrainingCase,
    counts: Sequence[int],
    kind: str = "strong",
    fabric: str = FABRIC,
    frozen: frozenset[str] = frozenset(),
) -> list[ScalingPoint]:
    """Points of one curve in the order of `counts`; weak batches are those of the case per device.

    The layout of the job is kept where it fits (its experts' spread and recomputation adapt), else its free sizes are
    tuned too. Raises InputError when the machine has no such number of devices.
    """
    system = cut_to_the_node(case.system) if fabric == NODES else case.system
    scale = FREE if fabric == IDEAL else PLAIN
    near, far = Tuner(frozen | _LAYOUT, scale), Tuner(frozen, scale)
    found, start = [], case
    for devices in counts:
        batch = case.global_batch if kind == "strong" else _weak_batch(case, devices)
        job = replace(start, system=with_devices(system, devices), global_batch=batch)
        job = with_sizes(job, {})
        tuned = near.tuned(job)
        if tuned is None or not tuned.fits:
            tuned = far.tuned(job) or tuned
        if tuned is not None and tuned.fits:
            start = tuned.case
        found.append(ScalingPoint(fabric, kind, devices, batch, tuned))
    return found


def _weak_batch(case: TrainingCase, devices: int) -> int:
    return max(round(case.global_batch * devices / case.system.devices), 1)


def efficiency(points: Sequence[ScalingPoint]) -> list[float | None]:
    """Tokens/s per device over those of the first size that runs; None where nothing runs."""
    rates = [point.tokens_per_s_per_device for point in points]
    first = next((rate for rate in rates if rate), None)
    return [rate / first if first and rate else None for rate in rates]


def curves(
    case: TrainingCase, counts: Sequence[int], frozen: frozenset[str] = frozenset()
) -> dict[tuple[str, str], list[ScalingPoint]]:
    """Every curve of a job by (fabric, kind): the fabric as it is, one that costs nothing, and where there is a bus
    beyond the node, the machine without it. Raises InputError."""
    fabrics = FABRICS if has_bus_beyond_the_node(case.system) else (FABRIC, IDEAL)
    return {(fabric, kind): curve(case, counts, kind, fabric, frozen) for kind in KINDS for fabric in fabrics}
