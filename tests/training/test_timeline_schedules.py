"""Schedules as they are run: every action once, inputs before outputs, published peaks and bubbles, the closed form."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.core.words import SCHEDULES
from supertwin.training.pipeline import DeviceTimes, in_flight, paired_share, pipeline_time
from supertwin.training.timeline.schedules import BACKWARD, FORWARD, INPUT, WEIGHT, Schedule, schedule_of

TWO_CHUNKS = ("zb-v", "dualpipev")


def simulated(schedule: Schedule, seconds: dict[str, list[float]], hop_s: float = 0.0) -> list[tuple[float, float]]:
    """(first start, last end) of each device: a replay apart from the one of the package, stage times by kind."""
    pp = len(schedule.orders)
    done: dict[tuple[bool, int, int], tuple[float, int]] = {}
    clock, place, first = [0.0] * pp, [0] * pp, [float("inf")] * pp
    while any(place[d] < len(schedule.orders[d]) for d in range(pp)):
        before = sum(place)
        for device in range(pp):
            while place[device] < len(schedule.orders[device]):
                unit = schedule.orders[device][place[device]]
                needs = []
                for kind, stage, microbatch in unit:
                    if kind == FORWARD:
                        needs += [(True, stage - 1, microbatch)] if stage else []
                    elif kind in (BACKWARD, INPUT):
                        last = stage == schedule.stages - 1
                        needs += [(True, stage, microbatch) if last else (False, stage + 1, microbatch)]
                        needs += [(True, stage, microbatch)]
                    else:
                        needs += [(False, stage, microbatch)]
                if not all(need in done for need in needs):
                    break
                arrivals = [done[need][0] + hop_s * (done[need][1] != device) for need in needs]
                start = max([clock[device], *arrivals])
                first[device] = min(first[device], start)
                clock[device] = start + sum(seconds[kind][stage] for kind, stage, _ in unit)
                for kind, stage, microbatch in unit:
                    if kind != WEIGHT:
                        done[kind == FORWARD, stage, microbatch] = clock[device], device
                place[device] += 1
        assert sum(place) > before, "no device can go on"
    return list(zip(first, clock, strict=True))


def even(schedule: Schedule, forward: float = 1.0, inputs: float = 1.0, weights: float = 1.0) -> dict[str, list[float]]:
    """Stage times of even devices: each takes forward, inputs and weights for all its stages of a microbatch."""
    per_device = schedule.stages / len(schedule.orders) if schedule.name != "dualpipe" else 1.0
    times = {FORWARD: forward, INPUT: inputs, WEIGHT: weights, BACKWARD: inputs + weights}
    return {kind: [value / per_device] * schedule.stages for kind, value in times.items()}


def bubble(name: str, pp: int, microbatches: int, vpp: int = 1, **times: float) -> float:
    schedule = schedule_of(name, pp, vpp, microbatches)
    ends = simulated(schedule, even(schedule, **times))
    return max(end for _, end in ends) - microbatches * sum(
        {"forward": 1.0, "inputs": 1.0, "weights": 1.0, **times}.values()
    )


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(SCHEDULES), st.integers(1, 8), st.integers(1, 4), st.integers(1, 40))
def test_every_action_once_on_its_device_and_no_deadlock(name: str, pp: int, vpp: int, microbatches: int) -> None:
    if name in (*TWO_CHUNKS, "dualpipe"):
        vpp, pp = 1, pp + pp % 2
    schedule = schedule_of(name, pp, vpp, microbatches)
    done = Counter(
        (action.kind, action.stage, action.microbatch) for order in schedule.orders for u in order for action in u
    )
    assert set(done.values()) == {1}
    for microbatch in range(microbatches):
        for stage in range(schedule.stages):
            assert (FORWARD, stage, microbatch) in done
            whole, split = (BACKWARD, stage, microbatch) in done, (INPUT, stage, microbatch) in done
            assert whole != split
            assert split == ((WEIGHT, stage, microbatch) in done)
    for device, order in enumerate(schedule.orders):
        assert all(schedule.device(a.stage, a.microbatch) == device for unit in order for a in unit)
    simulated(schedule, even(schedule))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("pp", "microbatches"), [(4, 16), (8, 32)])
def test_activations_held_are_the_published_peaks(name: str, pp: int, microbatches: int) -> None:
    """1F1B p - i (arXiv 2104.04473), ZB-H1 and ZB-V p (2401.10241, 2405.15362), DualPipe p + 1 (2412.19437)."""
    schedule = schedule_of(name, pp, 1, microbatches)
    assert max(schedule.held()) == pytest.approx(max(in_flight(pp, 1, microbatches, name)))
    if name in ("1f1b", "gpipe", "zb-h1"):
        assert schedule.held() == pytest.approx(list(in_flight(pp, 1, microbatches, name)))


@pytest.mark.parametrize("vpp", [2, 4])
def test_interleaved_holds_what_the_paper_says(vpp: int) -> None:
    held = schedule_of("interleaved", 8, vpp, 32).held()
    assert held == pytest.approx(list(in_flight(8, vpp, 32, "interleaved")))


@pytest.mark.parametrize("pp", [4, 8])
def test_bubbles_are_the_published_ones(pp: int) -> None:
    """arXiv 2412.19437, table 2 and the repository's README, with F = I = W."""
    m = 4 * pp
    assert bubble("1f1b", pp, m) == pytest.approx((pp - 1) * 3.0)
    assert bubble("gpipe", pp, m) == pytest.approx((pp - 1) * 3.0)
    assert bubble("interleaved", pp, m, vpp=2) == pytest.approx((pp - 1) * 3.0 / 2)
    assert bubble("zb-h1", pp, m) == pytest.approx((pp - 1) * 1.0)
    assert bubble("dualpipe", pp, m) == pytest.approx((pp / 2 - 1) * (3.0 + 2.0 - 3.0))
    assert bubble("dualpipev", pp, m) == pytest.approx((pp - 1) * (3.0 + 2.0 - 3.0) / 2)


@pytest.mark.parametrize("pp", [4, 8])
def test_zb_v_has_no_bubble_inside_a_device(pp: int) -> None:
    """arXiv 2405.15362: none with F = I = W, each device counted from its own first action on."""
    schedule = schedule_of("zb-v", pp, 1, 4 * pp)
    ends = simulated(schedule, even(schedule))
    assert all(end - start == pytest.approx(4 * pp * 3.0) for start, end in ends)
    assert bubble("zb-v", pp, 4 * pp) == pytest.approx((pp - 1) / 2)  # with the gradient norm as a common end


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([name for name in SCHEDULES if name not in ("dualpipe", "dualpipev")]),
    st.sampled_from([2, 4, 6, 8]),
    st.integers(2, 8),
    st.floats(0.8, 3.0),
    st.floats(0.3, 1.5),
)
def test_closed_form_is_that_of_even_stages(name: str, pp: int, laps: int, inputs: float, weights: float) -> None:
    m = laps * pp
    played = bubble(name, pp, m, inputs=inputs, weights=weights) + m * (1.0 + inputs + weights)
    one = np.ones(pp)
    closed = pipeline_time(DeviceTimes(one, (inputs + weights) * one, weights * one), m, name, 1).total_s
    assert closed == pytest.approx(played, rel=0.02)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SCHEDULES), st.sampled_from([4, 8]), st.integers(0, 2**31), st.floats(1.0, 1.5))
def test_closed_form_holds_for_uneven_stages(name: str, pp: int, seed: int, last: float) -> None:
    """Stages that differ by 10 % and a heavy last one, eight microbatches per device: within 6 %."""
    schedule, m = schedule_of(name, pp, 1, 8 * pp), 8 * pp
    chunk = np.exp(0.1 * np.random.default_rng(seed).standard_normal(schedule.stages))
    chunk[-1] *= last
    times = even(schedule)
    times = {
        kind: [value * factor for value, factor in zip(values, chunk, strict=True)] for kind, values in times.items()
    }
    played = max(end for _, end in simulated(schedule, times))

    def on_devices(kind: str) -> np.ndarray:
        held = np.zeros(pp)
        for stage, seconds in enumerate(times[kind]):
            held[schedule.device(stage, 0)] += seconds
        return 0.5 * (held + held[::-1]) if name == "dualpipe" else held

    passes = DeviceTimes(on_devices(FORWARD), on_devices(BACKWARD), on_devices(WEIGHT))
    assert pipeline_time(passes, m, name, 1).total_s == pytest.approx(played, rel=0.06)


def test_hops_of_1f1b_are_paid_in_the_steady_state() -> None:
    """A microbatch's way back through p devices frees the forward of the p-th after it: 2 (p - 1) hops per p
    microbatches even when messages travel beside compute; schedules with spare work in between hide them."""
    hop, m = 0.05, 64
    for name, expected in (("1f1b", 2 * m * 3 / 4), ("gpipe", 0), ("zb-h1", 0), ("zb-v", 0)):
        schedule = schedule_of(name, 4, 1, m)
        plain, with_hops = (max(e for _, e in simulated(schedule, even(schedule), h)) for h in (0.0, hop))
        assert with_hops - plain == pytest.approx(expected * hop, abs=16 * hop)


@pytest.mark.parametrize("name", ["dualpipe", "dualpipev"])
def test_paired_share_counts_the_units_of_two(name: str) -> None:
    for device, order in enumerate(schedule_of(name, 8, 1, 40).orders):
        pairs = sum(len(unit) == 2 for unit in order)
        forwards = sum(action.kind == FORWARD for unit in order for action in unit)
        assert paired_share(name, 8, 40, device) == pytest.approx(pairs / forwards)


def test_dualpipe_needs_an_even_number_of_devices() -> None:
    with pytest.raises(InputError, match="even pp"):
        schedule_of("dualpipe", 5, 1, 20)
