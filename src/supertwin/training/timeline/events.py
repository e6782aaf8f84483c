"""Streams in order, and what happened on them: every event knows which earlier one it waited for."""

from __future__ import annotations

from typing import NamedTuple

COMPUTE, HOST, DP, NEXT, PREVIOUS, OUT, BACK = range(7)
STREAMS = (
    "compute",
    "host",
    "dp communication",
    "pp send to next",
    "pp send to previous",
    "copy to host",
    "copy from host",
)
_PART = {DP: "communication/dp", NEXT: "communication/pp", PREVIOUS: "communication/pp", HOST: "host"}
_PART |= {OUT: "offload/activations", BACK: "offload/activations"}
NONE = -1


class Event(NamedTuple):
    """One stretch of one stream of one device, seconds from the start of the step.

    label: kind of action or of exchange. after: the event (by number) whose end it waited for, NONE at the start.
    """

    device: int
    stream: int
    label: str
    stage: int
    microbatch: int
    start_s: float
    end_s: float
    after: int


class Log:
    """Events in the order in which they were found, and when each stream of each device is free again."""

    def __init__(self, devices: int) -> None:
        self.events: list[Event] = []
        self.free_s = [[0.0] * len(STREAMS) for _ in range(devices)]
        self.last = [[NONE] * len(STREAMS) for _ in range(devices)]

    def put(self, device: int, stream: int, what: tuple[str, int, int], ready: tuple[float, int], took_s: float) -> int:
        """Append one event to a stream: it starts when the stream is free and its input ready. Returns its number.

        what: (label, stage, microbatch); ready: (time, number of the event that it comes from).
        """
        free = self.free_s[device][stream]
        start, after = ready if ready[0] > free else (free, self.last[device][stream])
        number = len(self.events)
        end = start + took_s
        self.events.append(Event(device, stream, *what, start, end, after))
        self.free_s[device][stream], self.last[device][stream] = end, number
        return number

    def end(self, number: int) -> tuple[float, int]:
        """(end of an event, its number), as what something else waits for."""
        return (self.events[number].end_s, number) if number >= 0 else (0.0, NONE)

    def state(self, device: int, stream: int) -> tuple[float, int]:
        """(time from which a stream is free, its last event)."""
        return self.free_s[device][stream], self.last[device][stream]

    def chain(self, number: int) -> list[Event]:
        """The longest chain that ends with an event, from its first event on."""
        found = []
        while number >= 0:
            event = self.events[number]
            found.append(event)
            number = event.after
        return found[::-1]

    def waited_for(self, number: int, since_s: float) -> dict[str, float]:
        """What the chain behind an event did since a time, by part: the reason of a wait that began then. Work of
        other devices counts as bubble."""
        spent: dict[str, float] = {}
        while number >= 0:
            event = self.events[number]
            if event.end_s <= since_s:
                break
            part = _PART.get(event.stream, "bubble")
            spent[part] = spent.get(part, 0.0) + event.end_s - max(event.start_s, since_s)
            number = event.after
        return spent


def latest(*candidates: tuple[float, int]) -> tuple[float, int]:
    """The latest of several things to wait for."""
    return max(candidates, key=lambda candidate: candidate[0])
