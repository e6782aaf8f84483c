"""A pipeline played out: every device takes its next action when its streams are free and its inputs have arrived.

Streams of a device work in order and beside each other. Inside an action compute and the collectives of its layers stay
summed, as the closed form prices them; it is cut into pieces only where the replicas' collectives decide when it goes
on: the first forward and the last backward of a stage, and every pass under full sharding.

A gradient bucket is sent when the backward of its layers ends, a gathered one frees the forward of its layers; compute
beside a collective of the replicas slows down by the closed form's loss. The host runs one action ahead at most, or
not at all where it synchronises with the device.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.training.sharding import Rounds
from supertwin.training.timeline.durations import Duration, Durations
from supertwin.training.timeline.events import BACK, COMPUTE, DP, HOST, NEXT, NONE, OUT, PREVIOUS, Log, latest
from supertwin.training.timeline.schedules import BACKWARD, FORWARD, WEIGHT, Action, Schedule, Unit
from supertwin.training.timeline.work import StepWork

Array = npt.NDArray[np.float64]
MOST_PIECES = 64  # pieces that an action is cut into at most
_Ready = tuple[float, int]
_Job = tuple[tuple[str, int, int], float, Duration]


@dataclass(frozen=True, slots=True)
class Played:
    """One pipeline up to the point where its devices have reduced all gradients.

    units: (last compute event, unit) per device in order; lost_s: seconds by which collectives beside compute
    ("communication/dp"), the host and copies made a device's actions longer; done: when each device has its gradients.
    """

    log: Log
    durations: Durations
    units: list[list[tuple[int, Unit]]]
    lost_s: list[dict[str, float]]
    done: list[_Ready]


def play_pipeline(work: StepWork, slowdown: Array) -> Played:
    """Play the passes of one step on one pipeline. slowdown: factor on the kernels of each device, [pp]."""
    return _Player(work, slowdown).run()


class _Player:
    """State of a pipeline while it is played."""

    def __init__(self, work: StepWork, slowdown: Array) -> None:
        self.work, self.schedule = work, work.schedule
        pp = len(work.schedule.orders)
        self.log, self.durations = Log(pp), Durations(work, slowdown)
        self.arrived: dict[tuple[bool, int, int], _Ready] = {}
        self.units: list[list[tuple[int, Unit]]] = [[] for _ in range(pp)]
        self.lost_s: list[dict[str, float]] = [defaultdict(float) for _ in range(pp)]
        self.ahead: list[_Ready] = [(0.0, NONE)] * pp
        self.gathers: dict[tuple[int, int], list[int]] = {}
        self.ahead_gather = [NONE] * pp
        self.left = _backwards(work.schedule)

    def run(self) -> Played:
        """Play all orders; each device goes as far as its inputs allow, then the next one."""
        self._gather_parameters()
        orders = self.schedule.orders
        place = [0] * len(orders)
        open_devices = list(range(len(orders)))
        while open_devices:
            moved = False
            for device in open_devices:
                order = orders[device]
                while place[device] < len(order):
                    ready = self._ready(order[place[device]])
                    if ready is None:
                        break
                    self._take(device, order[place[device]], ready)
                    place[device] += 1
                    moved = True
            assert moved, f"{self.schedule.name}: no device can go on"
            open_devices = [device for device in open_devices if place[device] < len(orders[device])]
        self._reduce_late()
        return Played(self.log, self.durations, self.units, self.lost_s, self._finish())

    def _ready(self, unit: Unit) -> _Ready | None:
        """When the inputs of a unit are there; None while they are not known."""
        ready: _Ready = (0.0, NONE)
        for action in unit:
            if action.kind == WEIGHT or (action.kind == FORWARD and action.stage == 0):
                continue
            found = self.arrived.get((action.kind == FORWARD, action.stage, action.microbatch))
            if found is None:
                return None
            ready = latest(ready, found)
        return ready

    def _take(self, device: int, unit: Unit, ready: _Ready) -> None:
        """Run a unit and send its results."""
        duration, log = self.durations.of(device, unit), self.log
        what = ("&".join(action.kind for action in unit), unit[0].stage, unit[0].microbatch)
        issued = 0.0
        if duration.issue_s > 0.0:
            begin = latest(log.state(device, COMPUTE), ready) if self.work.synced else self.ahead[device]
            host = log.put(device, HOST, what, begin, duration.issue_s)
            issued = log.events[host].end_s
            ready = latest(ready, (log.events[host].start_s, log.events[host].after))
        self.ahead[device] = log.state(device, COMPUTE)
        if self._cut(device, unit):
            last = self._in_pieces(device, unit, ready, issued)
        else:
            last = self._piece(device, (what, duration.total_s, duration), ready, issued)
        self.units[device].append((last, unit))
        for action in unit:
            self._send(device, action, log.end(last))
            self._reduce_now(device, action)

    def _piece(self, device: int, job: _Job, ready: _Ready, issued: float) -> int:
        """One stretch of compute, which ends when the host has issued it and its copies are done."""
        what, took_s, duration = job
        log, lost = self.log, self.lost_s[device]
        begin = latest(log.state(device, COMPUTE), ready)
        end = begin[0] + took_s
        if issued > end:
            lost["host"] += issued - end
            end = issued
        for stream, copy_s in ((OUT, duration.out_s), (BACK, duration.back_s)):
            if copy_s > 0.0:
                done = log.events[log.put(device, stream, what, begin, copy_s)].end_s
                lost["offload/activations"] += max(done - end, 0.0)
                end = max(end, done)
        return log.put(device, COMPUTE, what, begin, end - begin[0])

    def _send(self, device: int, action: Action, done: _Ready) -> None:
        """Hand the result of an action to the stage that needs it."""
        kind, stage, microbatch = action
        forward = kind == FORWARD
        if kind == WEIGHT:
            return
        if forward and stage == self.schedule.stages - 1:
            self.arrived[False, stage, microbatch] = done
            return
        target = stage + 1 if forward else stage - 1
        if target < 0:
            return
        if self.schedule.device(target, microbatch) != device and self.work.hop_s > 0.0:
            stream = NEXT if forward else PREVIOUS
            sent = self.log.put(device, stream, (f"send {kind}", stage, microbatch), done, self.work.hop_s)
            done = self.log.end(sent)
            if self.work.blocking:
                self._block(device, done)
        self.arrived[forward, target, microbatch] = done

    def _block(self, device: int, sent: _Ready) -> None:
        """A stack that sends in line computes on when its message has gone."""
        if sent[0] > self.log.free_s[device][COMPUTE]:
            self.log.free_s[device][COMPUTE], self.log.last[device][COMPUTE] = sent

    def _cut(self, device: int, unit: Unit) -> bool:
        """Whether the replicas' collectives decide when the unit goes on. Counts the backwards that are left."""
        cut = self.work.sharded
        for action in unit:
            place = device, action.stage
            if action.kind == FORWARD:
                cut = cut or place in self.gathers
            elif action.kind in (BACKWARD, WEIGHT):
                self.left[place] -= 1
                rounds = self.work.rounds[action.stage]
                cut = cut or (self._reduces(place) and rounds.beside[0] and rounds.reduce_s > 0.0)
        return cut

    def _reduces(self, place: tuple[int, int]) -> bool:
        """Whether the backward that a device has just begun on a stage ends with the reduction of its gradients."""
        return self.left[place] == 0 or self.work.every

    def _in_pieces(self, device: int, unit: Unit, ready: _Ready, issued: float) -> int:
        """Run a unit whose collectives run beside it, action by action and piece by piece. Returns its last event."""
        duration = self.durations.of(device, unit)
        shares = [self.durations.of(device, (action,)).total_s for action in unit]
        scale = duration.total_s / max(sum(shares), 1e-30)
        last = NONE
        for action, share in zip(unit, shares, strict=True):
            gates, bucket_s, count = self._exchange(device, action)
            whole = Duration(share, duration.parts, {}, 0.0, duration.out_s / count, duration.back_s / count)
            for piece in range(count):
                gate = self._gate(device, action, gates, piece, ready)
                final = issued if action is unit[-1] and piece == count - 1 else 0.0
                took = self._slowed(device, latest(self.log.state(device, COMPUTE), gate)[0], scale * share / count)
                last = self._piece(device, ((action.kind, action.stage, action.microbatch), took, whole), gate, final)
                if isinstance(gates, float) and gates > 0.0 and not self.work.prefetch and piece + 1 < count:
                    what = ("gather", action.stage, action.microbatch)
                    self.ahead_gather[device] = self.log.put(device, DP, what, self.log.end(last), gates)
                if bucket_s > 0.0:
                    self.log.put(device, DP, ("reduce", action.stage, action.microbatch), self.log.end(last), bucket_s)
        return last

    def _exchange(self, device: int, action: Action) -> tuple[list[int] | float, float, int]:
        """(gathers under way or seconds of each gather still to start, seconds of each reduction, pieces)."""
        rounds, place = self.work.rounds[action.stage], (device, action.stage)
        count = _pieces(rounds)
        if self.work.sharded:
            again = action.kind != WEIGHT and self.work.regather
            gather = rounds.gather_s / count if action.kind == FORWARD or again else 0.0
            return gather, (rounds.reduce_s / count if action.kind in (BACKWARD, WEIGHT) else 0.0), count
        if action.kind == FORWARD:
            gathers = self.gathers.pop(place, [])
            return gathers, 0.0, max(len(gathers), 1)
        last = action.kind in (BACKWARD, WEIGHT) and self._reduces(place) and rounds.beside[0]
        return [], (rounds.reduce_s / count if last else 0.0), count if last else 1

    def _gate(self, device: int, action: Action, gathers: list[int] | float, piece: int, ready: _Ready) -> _Ready:
        """What a piece waits for: its own parameters. Under full sharding those of the next piece are gathered while
        this one computes."""
        if isinstance(gathers, list):
            return latest(ready, self.log.end(gathers[piece])) if gathers else ready
        if gathers <= 0.0:
            return ready
        what, log = ("gather", action.stage, action.microbatch), self.log
        if piece == 0:
            self.ahead_gather[device] = log.put(device, DP, what, latest(log.state(device, COMPUTE), ready), gathers)
        begin = latest(log.state(device, COMPUTE), ready, log.end(self.ahead_gather[device]))
        if self.work.prefetch and piece + 1 < _pieces(self.work.rounds[action.stage]):
            self.ahead_gather[device] = log.put(device, DP, what, begin, gathers)
        return begin

    def _slowed(self, device: int, begin_s: float, took_s: float) -> float:
        """Compute that starts beside a collective of the replicas advances at 1 - loss while that runs."""
        alone = max(1.0 - self.work.loss, 1e-9)
        beside = min(max(self.log.free_s[device][DP] - begin_s, 0.0), took_s / alone)
        self.lost_s[device]["communication/dp"] += self.work.loss * beside
        return took_s + self.work.loss * beside

    def _gather_parameters(self) -> None:
        """Start the gathers of the new parameters, in the order in which the first microbatches need them."""
        if self.work.sharded:
            return
        for device, order in enumerate(self.schedule.orders):
            for stage in dict.fromkeys(action.stage for unit in order for action in unit if action.kind == FORWARD):
                rounds = self.work.rounds[stage]
                if rounds.gather_s > 0.0 and rounds.beside[1]:
                    count, what = _pieces(rounds), ("gather", stage, 0)
                    self.gathers[device, stage] = [
                        self.log.put(device, DP, what, (0.0, NONE), rounds.gather_s / count) for _ in range(count)
                    ]

    def _reduce_late(self) -> None:
        """Reductions that wait for the whole backward pass of their device."""
        for device, stage in self.left:
            rounds = self.work.rounds[stage]
            if not self.work.sharded and not rounds.beside[0] and rounds.reduce_s > 0.0:
                ready = self.log.state(device, COMPUTE)
                self.log.put(device, DP, ("reduce", stage, 0), ready, rounds.reduce_s)

    def _reduce_now(self, device: int, action: Action) -> None:
        """ZeRO-2 without overlap: compute waits for the reduction of every microbatch; the last one's comes late."""
        rounds, place = self.work.rounds[action.stage], (device, action.stage)
        if not self.work.every or action.kind not in (BACKWARD, WEIGHT) or rounds.beside[0] or not self.left[place]:
            return
        ready, what = self.log.state(device, COMPUTE), ("reduce", action.stage, action.microbatch)
        if rounds.reduce_s > 0.0:
            self._block(device, self.log.end(self.log.put(device, DP, what, ready, rounds.reduce_s)))

    def _finish(self) -> list[_Ready]:
        """When each device has all its gradients; the ends of the model add up a tied table."""
        done = [latest(self.log.state(d, COMPUTE), self.log.state(d, DP)) for d in range(len(self.units))]
        if self.work.tied_s > 0.0:
            ends = sorted({self.schedule.device(stage, 0) for stage in (0, self.schedule.stages - 1)})
            ready = latest(*(done[device] for device in ends))
            for device in ends:
                done[device] = self.log.end(self.log.put(device, DP, ("tied", 0, 0), ready, self.work.tied_s))
        return done


def _pieces(rounds: Rounds) -> int:
    return min(max(math.ceil(rounds.pieces - 1e-9), 1), MOST_PIECES)


def _backwards(schedule: Schedule) -> dict[tuple[int, int], int]:
    """Backwards (or weight gradients) that each device still has to do per stage."""
    return dict(
        Counter(
            (device, action.stage)
            for device, order in enumerate(schedule.orders)
            for unit in order
            for action in unit
            if action.kind in (BACKWARD, WEIGHT)
        )
    )
