"""Why a timeline and the closed form differ: the part that differs most, and the longest chain of events behind it."""

from __future__ import annotations

from collections import defaultdict

from supertwin.training.step import StepTime
from supertwin.training.timeline.events import STREAMS
from supertwin.training.timeline.play import Played
from supertwin.training.timeline.work import StepWork

SAME = 0.002
"""Differences below this share of the step are not explained."""
_MOST_PARTS = 3
_REASONS = {
    ("bubble", True): "the schedule leaves devices idle that the formula takes as filled",
    ("bubble", False): "waits overlap that the formula adds up",
    ("communication/dp", True): "less compute is left beside the replicas' collectives when their buckets are ready",
    ("communication/dp", False): "buckets go out beside more compute than the last backward of one microbatch, or in "
    "the slack of devices that end early",
    ("communication/pp", True): "neighbours wait for each other's messages",
    ("communication/pp", False): "messages travel beside compute",
    ("communication/ep", True): "forwards and backwards without a partner leave their expert traffic visible",
    ("communication/ep", False): "a unit hides expert traffic behind both of its passes",
    ("host", True): "the host issues chunk by chunk, where nothing is left to run beside it",
    ("host", False): "the host runs ahead of the device from one action to the next",
    ("offload/activations", True): "copies queue on the host link",
}


def differences(parts: dict[str, float], closed: StepTime) -> dict[str, float]:
    """Seconds that the timeline has more than the closed form, by part, largest difference first."""
    names = dict.fromkeys((*closed.parts, *parts))
    found = {name: parts.get(name, 0.0) - closed.parts.get(name, 0.0) for name in names}
    return dict(sorted(found.items(), key=lambda item: -abs(item[1])))


def because(parts: dict[str, float], closed: StepTime, played: Played, work: StepWork, slowest: float) -> str:
    """One sentence: the parts that differ most, the reason of the first, and the chain of events that decides the
    step. slowest: largest factor of a device's kernels."""
    share = {name: seconds / closed.total_s for name, seconds in differences(parts, closed).items()}
    most = max(abs(value) for value in share.values())
    if most < SAME:
        return f"no part differs by more than {100.0 * SAME:g} % of the step; {chain_words(played)}"
    shown = [name for name, value in share.items() if abs(value) >= max(SAME, 0.3 * most)][:_MOST_PARTS]
    words = ", ".join(f"{name} {100.0 * share[name]:+.1f} %" for name in shown)
    more = share[shown[0]] > 0.0
    reason = _REASONS.get((shown[0], more), "less work")
    if shown[0] == "bubble" and more and uneven_laps(work):
        reason = "chunks of unequal work hold up every lap through the pipeline"
    if slowest > 1.0 and more:
        reason = f"a device with {slowest:.3g} times the kernel time keeps the others waiting"
    return f"{words} of the step: {reason}; {chain_words(played)}"


def uneven_laps(work: StepWork) -> bool:
    """Whether the slowest chunks of all laps together take longer than the slowest device, by more than 2 %."""
    pp = len(work.schedule.orders)
    both = (work.forward.exposed.sum(axis=1) + work.backward.exposed.sum(axis=1)).reshape(-1, pp)
    return bool(both.max(axis=1).sum() > 1.02 * both.sum(axis=0).max())


def chain_words(played: Played, most: int = 3) -> str:
    """The longest chain of the passes in words: where its time is spent."""
    end_s, last = max(played.done)
    spent: defaultdict[tuple[int, str], float] = defaultdict(float)
    for event in played.log.chain(last):
        spent[event.device, STREAMS[event.stream]] += (event.end_s - event.start_s) / max(end_s, 1e-30)
    longest = sorted(spent.items(), key=lambda item: -item[1])[:most]
    rows = [
        f"{100.0 * share:.0f} % {stream} of stage {device}"
        for (device, stream), share in longest
        if share >= 0.01 or share == longest[0][1]
    ]
    return "longest chain: " + ", ".join(rows)
