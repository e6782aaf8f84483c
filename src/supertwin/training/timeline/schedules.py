"""Pipeline schedules as they are run: the order in which every device works through its microbatches.

An order is a list of units; a unit is one action, or a forward and a backward that DualPipe runs as one. Stages are
counted along the model (pp times chunks per device), so forward goes from stage s to s + 1 and backward the other way,
whichever device holds them. Orders that need more microbatches than the step has are built for the number they need,
and what is too many is taken out.

Sources: GPipe, arXiv 1811.06965; 1F1B, arXiv 1806.03377; interleaved, arXiv 2104.04473, section 2.2; ZB-H1, arXiv
2401.10241, figure 3; ZB-V, arXiv 2405.15362, figure 5, in the order of torch.distributed.pipelining
(ScheduleZBVZeroBubble); DualPipe and DualPipeV, arXiv 2412.19437 and the eight steps of the deepseek-ai/DualPipe
repository.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from supertwin.core.errors import InputError

FORWARD, BACKWARD, INPUT, WEIGHT = "F", "B", "I", "W"
"""Forward; backward of inputs and weights in one; backward of the inputs alone; of the weights alone."""


class Action(NamedTuple):
    """One microbatch through one stage in one direction."""

    kind: str
    stage: int
    microbatch: int


Unit = tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """orders: units per device. stages: stages along the model. reversed_from: microbatches from this one on run
    through the devices in opposite order (DualPipe's second direction)."""

    name: str
    orders: tuple[tuple[Unit, ...], ...]
    stages: int
    reversed_from: int

    def device(self, stage: int, microbatch: int) -> int:
        """Device on which a microbatch meets a stage."""
        devices = len(self.orders)
        lap, place = divmod(stage, devices)
        folded = self.name in ("zb-v", "dualpipev") and lap % 2 == 1
        return devices - 1 - place if folded or microbatch >= self.reversed_from else place

    def held(self) -> list[float]:
        """Microbatches whose activations a device holds at its peak (a chunk counts as its share of the device's)."""
        chunks = self.stages / len(self.orders) if self.name != "dualpipe" else 1.0
        return [_peak(order) / chunks for order in self.orders]


def _peak(order: tuple[Unit, ...]) -> int:
    """Forwards that are open at once: a unit's forward opens before its backward closes."""
    now = most = 0
    for unit in order:
        for action in unit:
            now += {FORWARD: 1, INPUT: 0}.get(action.kind, -1)
            most = max(most, now)
    return most


@lru_cache(maxsize=256)
def schedule_of(name: str, pp: int, vpp: int, microbatches: int) -> Schedule:
    """The schedule `name` (training.pipeline.SCHEDULES) for pp devices with vpp chunks each.

    Raises InputError for DualPipe on an odd number of devices.
    """
    if name == "dualpipe" and pp % 2:
        raise InputError(f"schedule dualpipe runs from both ends and needs an even pp, got {pp}; use dualpipev")
    half = -(-microbatches // 2) if name == "dualpipe" else microbatches
    stages = pp * (2 if name in ("zb-v", "dualpipev") else vpp)
    orders = tuple(_BUILDERS[name](device, pp, vpp, microbatches) for device in range(pp))
    return Schedule(name, orders, stages, half)


def _kept(units: list[list[Action]], microbatches: int) -> tuple[Unit, ...]:
    """Units without the microbatches that the step does not have."""
    kept = (tuple(action for action in unit if action.microbatch < microbatches) for unit in units)
    return tuple(unit for unit in kept if unit)


def _chunked(position: int, pp: int, vpp: int, microbatches: int) -> tuple[int, int]:
    """(chunk, microbatch) of the position-th forward: a group of pp microbatches through one chunk, then the next one.

    What is left over joins the last group: Megatron-Core refuses a group of fewer than pp beside others.
    """
    last = max(microbatches // pp - 1, 0)
    group = min(position // (pp * vpp), last)
    size = pp if group < last else microbatches - last * pp
    chunk, place = divmod(position - group * pp * vpp, size)
    return chunk, group * pp + place


def _warm(device: int, pp: int, vpp: int, microbatches: int) -> int:
    """Forwards before the first backward: those that fill the devices behind; with chunks, one group per chunk too."""
    if vpp == 1:
        return pp - 1 - device
    largest = microbatches - max(microbatches // pp - 1, 0) * pp
    return 2 * (pp - 1 - device) + (vpp - 1) * largest


def _interleaved(device: int, pp: int, vpp: int, microbatches: int) -> tuple[Unit, ...]:
    """1F1B; with chunks, Megatron's interleaved order."""
    place = (device, pp, vpp, microbatches)
    return _one_forward_one_backward(place, _warm(*place), None)


def _gpipe(device: int, pp: int, vpp: int, microbatches: int) -> tuple[Unit, ...]:
    """All forwards, then all backwards."""
    return _one_forward_one_backward((device, pp, vpp, microbatches), vpp * microbatches, None)


def _zb_h1(device: int, pp: int, vpp: int, microbatches: int) -> tuple[Unit, ...]:
    """1F1B whose weight gradients run `device` microbatches late, so that every device holds pp microbatches."""
    place = (device, pp, vpp, microbatches)
    return _one_forward_one_backward(place, _warm(*place), device)


def _one_forward_one_backward(place: tuple[int, int, int, int], warm: int, lag: int | None) -> tuple[Unit, ...]:
    """`warm` forwards, forward and backward in turn, the other backwards. lag: backwards by which weight gradients
    are late; None for backwards in one."""
    device, pp, vpp, microbatches = place
    total = vpp * microbatches
    order: list[Unit] = []
    waiting: list[Action] = []

    def forward(position: int) -> None:
        chunk, microbatch = _chunked(position, pp, vpp, microbatches)
        order.append((Action(FORWARD, chunk * pp + device, microbatch),))

    def backward(position: int) -> None:
        chunk, microbatch = _chunked(position, pp, vpp, microbatches)
        stage = (vpp - 1 - chunk) * pp + device
        order.append((Action(BACKWARD if lag is None else INPUT, stage, microbatch),))
        if lag is not None:
            waiting.append(Action(WEIGHT, stage, microbatch))
            if len(waiting) > lag:
                order.append((waiting.pop(0),))

    warm = min(warm, total)
    for position in range(total + warm):
        if position < total:
            forward(position)
        if position >= warm:
            backward(position - warm)
    order.extend((action,) for action in waiting)
    return tuple(order)


def _zb_v(device: int, pp: int, _vpp: int, microbatches: int) -> tuple[Unit, ...]:
    """ZB-V: a first chunk on the way down, a second on the way up, at most 2 pp chunks held."""
    units: list[list[Action]] = []
    stage, count = (device, 2 * pp - 1 - device), {(k, c): 0 for k in (FORWARD, INPUT, WEIGHT) for c in (0, 1)}
    total = max(2 * pp - 1, microbatches)

    def put(kind: str, chunk: int) -> None:
        units.append([Action(kind, stage[chunk], count[kind, chunk])])
        count[kind, chunk] += 1

    for _ in range(2 * (pp - device) - 1):
        put(FORWARD, 0)
    for _ in range(device):
        put(FORWARD, 1)
        put(FORWARD, 0)
    for _ in range(pp - device):
        for kind in (FORWARD, INPUT, WEIGHT):
            put(kind, 1)
    while count[FORWARD, 1] < count[FORWARD, 0] or count[FORWARD, 0] < total:
        if count[FORWARD, 0] < total:
            put(FORWARD, 0)
        for kind, chunk in ((INPUT, 0), (WEIGHT, 0), (FORWARD, 1), (INPUT, 1), (WEIGHT, 1)):
            put(kind, chunk)
    for _ in range(device):
        put(INPUT, 0)
        put(INPUT, 1)
    for _ in range(pp - device):
        put(INPUT, 0)
        put(WEIGHT, 0)
    for chunk in (1, 0):
        while count[WEIGHT, chunk] < count[INPUT, chunk]:
            put(WEIGHT, chunk)
    return _kept(units, microbatches)


def _dualpipe(device: int, pp: int, _vpp: int, microbatches: int) -> tuple[Unit, ...]:
    """DualPipe: two directions, whose microbatches are numbered one after the other."""
    near, half = min(device, pp - 1 - device), -(-microbatches // 2)
    second = device >= pp // 2
    order: list[Unit] = []
    for unit in _dual(near, pp // 2, max(half, pp)):
        found = []
        for kind, phase, index in unit:
            lane = phase ^ second
            if index < (microbatches - half if lane else half):
                found.append(Action(kind, pp - 1 - near if phase else near, index + lane * half))
        if found:
            order.append(tuple(found))
    return tuple(order)


def _dualpipev(device: int, pp: int, _vpp: int, microbatches: int) -> tuple[Unit, ...]:
    """DualPipeV: DualPipe cut in half, the second direction being the way back."""
    units = _dual(device, pp, max(microbatches, 2 * pp))
    stage = (device, 2 * pp - 1 - device)
    return _kept([[Action(kind, stage[phase], index) for kind, phase, index in unit] for unit in units], microbatches)


def _dual(near: int, half: int, chunks: int) -> list[list[tuple[str, int, int]]]:
    """The eight steps of DualPipe on the device at distance `near` from its end: units of (kind, phase, microbatch).

    half: devices of one arm; chunks: microbatches per phase, at least 2 half.
    """
    units: list[list[tuple[str, int, int]]] = []
    count = {(kind, phase): 0 for kind in "FB" for phase in (0, 1)}
    waiting: list[tuple[int, int]] = []

    def take(kind: str, phase: int, late: bool = False) -> tuple[str, int, int]:
        index = count[kind, phase]
        count[kind, phase] += 1
        if late:
            waiting.append((phase, index))
        return (INPUT if late else kind), phase, index

    def put(*wanted: tuple[str, int], late: bool = False) -> None:
        units.append([take(kind, phase, late) for kind, phase in wanted])

    def weight() -> None:
        units.append([(WEIGHT, *waiting.pop(0))])

    inner = half - near - 1
    for _ in range(2 * inner):  # 1
        put(("F", 0))
    for _ in range(near + 1):  # 2
        put(("F", 0))
        put(("F", 1))
    for _ in range(inner):  # 3
        put(("B", 1), late=True)
        weight()
        put(("F", 1))
    for i in range(chunks - 2 * half + near + 1):  # 4
        if i == 0 and inner == 0:
            put(("F", 0))
            put(("B", 1))
        else:
            put(("F", 0), ("B", 1))
        put(("F", 1), ("B", 0))
    for _ in range(inner):  # 5
        put(("B", 1))
        put(("F", 1), ("B", 0))
    late = False
    for i in range(near + 1):  # 6
        late = late or (i == (near + 1) // 2 and near % 2 == 1)
        put(("B", 1), late=late)
        late = late or (i == (near + 1) // 2 and near % 2 == 0)
        put(("B", 0), late=late)
    for _ in range(inner):  # 7
        weight()
        put(("B", 0), late=True)
    while waiting:  # 8
        weight()
    return units


_BUILDERS: dict[str, Callable[[int, int, int, int], tuple[Unit, ...]]] = {
    "1f1b": _interleaved,
    "interleaved": _interleaved,
    "gpipe": _gpipe,
    "zb-h1": _zb_h1,
    "zb-v": _zb_v,
    "dualpipe": _dualpipe,
    "dualpipev": _dualpipev,
}
