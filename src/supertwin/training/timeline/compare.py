"""Why a timeline and the closed form differ: the part that differs most, and the longest chain of events behind it."""

from __future__ import annotations

from collections import defaultdict

from supertwin.training.step import StepTime
from supertwin.training.timeline.events import STREAMS
from supertwin.training.timeline.play import Played

SAME = 0.002
"""Differences below this share of the step are not explained."""
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


def because(parts: dict[str, float], closed: StepTime, played: Played) -> str:
    """One sentence: the largest difference, its reason, and the chain of events that decides the step."""
    total = sum(parts.values())
    name, seconds = next(iter(differences(parts, closed).items()))
    if abs(seconds) < SAME * closed.total_s:
        return f"no part differs by more than {100.0 * SAME:g} % of the step; {chain_words(played)}"
    share = 100.0 * seconds / closed.total_s
    reason = _REASONS.get((name, seconds > 0.0), "slow devices work longer" if seconds > 0.0 else "less work")
    whole = 100.0 * (total / closed.total_s - 1.0)
    return f"{whole:+.1f} % in all, of which {name} {share:+.1f} % ({seconds:+.3g} s): {reason}; {chain_words(played)}"


def chain_words(played: Played, most: int = 3) -> str:
    """The longest chain of the passes in words: where its time is spent."""
    end_s, last = max(played.done)
    spent: defaultdict[tuple[int, str], float] = defaultdict(float)
    for event in played.log.chain(last):
        spent[event.device, STREAMS[event.stream]] += event.end_s - event.start_s
    rows = [
        f"{100.0 * seconds / max(end_s, 1e-30):.0f} % {stream} of stage {device}"
        for (device, stream), seconds in sorted(spent.items(), key=lambda item: -item[1])[:most]
    ]
    return "longest chain: " + ", ".join(rows)
