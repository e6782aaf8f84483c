"""Which layers each pipeline device holds: even and uneven splits, virtual chunks, folded schedules."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from supertwin.training.pipeline import FOLDED

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StagePlan:
    """counts[d, k]: layers of kind k on pipeline device d, shape [pp, kinds]; the flags mark the special devices.

    copies: parameter copies per device (DualPipe keeps two chunks of a mirrored model: its counts are means).
    chunk_layers: layers per chunk in model order, shape [pp * vpp].
    """

    counts: Array
    embedding: Array
    head: Array
    chunk_layers: tuple[int, ...]
    copies: float = 1.0


@lru_cache(maxsize=4096)
def split_layers(layers: int, pp: int, vpp: int, head_weight: float) -> tuple[int, ...]:
    """Layers per chunk, in model order, shape [pp * vpp].

    An even split where layers divide by pp x vpp (what frameworks do by default). Else every chunk is first filled to
    the ceiling and the surplus is taken, one by one, from the device with most work, where head and MTP modules weigh
    `head_weight` layers on the last device and the embedding a little on the first.
    """
    chunks = pp * vpp
    per_chunk = -(-layers // chunks)
    sizes = [per_chunk] * chunks
    surplus = per_chunk * chunks - layers
    load = [float(per_chunk * vpp)] * pp
    load[0] += 0.1
    load[-1] += head_weight
    for _ in range(surplus):
        device = max((d for d in range(pp) if _has_layers(sizes, pp, d)), key=lambda d: (load[d], -d))
        chunk = _largest_chunk(sizes, pp, device)
        sizes[chunk] -= 1
        load[device] -= 1.0
    return tuple(sizes)


def _has_layers(sizes: list[int], pp: int, device: int) -> bool:
    return any(sizes[device::pp])


def _largest_chunk(sizes: list[int], pp: int, device: int) -> int:
    """The chunk of a device that gives a layer: the largest; the last device gives from its last chunk first."""
    own = range(device, len(sizes), pp)
    prefer_late = device == pp - 1
    return max(own, key=lambda c: (sizes[c], c if prefer_late else -c))


def chunks_per_device(schedule: str, vpp: int) -> int:
    """Model chunks on each pipeline device: two in the V shapes, else vpp."""
    return 2 if schedule in ("zb-v", "dualpipev") else vpp


def stated_chunks(stages: tuple[int, ...], pp: int, chunks: int, schedule: str) -> tuple[int, ...]:
    """Layers per chunk in model order, shape [pp * chunks], from layers per chunk or per device.

    The layers of a device are spread over its chunks, the earlier ones taking what does not divide.
    """
    if len(stages) == pp * chunks:
        return stages
    sizes = []
    for chunk in range(pp * chunks):
        whole, rest = divmod(stages[_device_of(chunk, pp, schedule)], chunks)
        sizes.append(whole + (1 if chunk // pp < rest else 0))
    return tuple(sizes)


def stage_plan(
    order: tuple[int, ...], layout: tuple[int, int], schedule: str, head_weight: float, stages: tuple[int, ...] = ()
) -> StagePlan:
    """Place the layers (kind indices in model order) on layout = (pp, vpp) devices for a schedule.

    stages: layers per device or per chunk where the job states them; else split_layers decides.
    """
    return _plan(order, layout, schedule, round(head_weight, 2), stages)


@lru_cache(maxsize=1024)
def _plan(
    order: tuple[int, ...], layout: tuple[int, int], schedule: str, head_weight: float, stages: tuple[int, ...]
) -> StagePlan:
    pp, vpp = layout[0], chunks_per_device(schedule, layout[1])
    kinds = max(order) + 1
    sizes = stated_chunks(stages, pp, vpp, schedule) if stages else split_layers(len(order), pp, vpp, head_weight)
    counts = np.zeros((pp, kinds))
    embedding, head = np.zeros(pp), np.zeros(pp)
    start = 0
    for chunk, size in enumerate(sizes):
        device = _device_of(chunk, pp, schedule)
        counts[device] += np.bincount(order[start : start + size], minlength=kinds)
        start += size
    embedding[0] = 1.0
    head[_device_of(len(sizes) - 1, pp, schedule)] = 1.0
    if schedule != "dualpipe":
        return StagePlan(counts, embedding, head, sizes)
    mirror = slice(None, None, -1)
    mean = 0.5
    return StagePlan(
        mean * (counts + counts[mirror]),
        mean * (embedding + embedding[mirror]),
        mean * (head + head[mirror]),
        sizes,
        2.0,
    )


def _device_of(chunk: int, pp: int, schedule: str) -> int:
    """Device of a chunk: round robin, or there and back for the V shapes."""
    lap, place = divmod(chunk, pp)
    folded = schedule in FOLDED and lap % 2 == 1
    return pp - 1 - place if folded else place
