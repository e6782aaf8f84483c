"""Pipeline schedules against published formulas and against a schedule played out event by event."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.training.pipeline import DeviceTimes, in_flight, pipeline_time


def uniform(pp: int, forward: float = 1.0, backward: float = 2.0, wgrad: float = 1.0) -> DeviceTimes:
    one = np.ones(pp)
    return DeviceTimes(forward * one, backward * one, wgrad * one)


STAGES = st.lists(st.tuples(st.floats(0.2, 3.0), st.floats(0.4, 6.0)), min_size=1, max_size=6)


def played_1f1b(forward: list[float], backward: list[float], microbatches: int) -> float:
    """Finish time of 1F1B, by replaying each device's order of work under its dependencies."""
    pp = len(forward)
    orders = []
    for device in range(pp):
        warm = min(pp - 1 - device, microbatches)
        order = [("f", i) for i in range(warm)]
        for i in range(microbatches - warm):
            order += [("f", warm + i), ("b", i)]
        order += [("b", i) for i in range(microbatches - warm, microbatches)]
        orders.append(order)
    done: dict[tuple[str, int, int], float] = {}
    clock, place = [0.0] * pp, [0] * pp
    while any(place[d] < len(orders[d]) for d in range(pp)):
        for d in range(pp):
            while place[d] < len(orders[d]):
                kind, i = orders[d][place[d]]
                if kind == "f":
                    need = 0.0 if d == 0 else done.get(("f", d - 1, i))
                else:
                    need = done.get(("f", d, i)) if d == pp - 1 else done.get(("b", d + 1, i))
                if need is None:
                    break
                clock[d] = max(clock[d], need) + (forward[d] if kind == "f" else backward[d])
                done[(kind, d, i)] = clock[d]
                place[d] += 1
    return max(clock)


@pytest.mark.parametrize(("pp", "microbatches"), [(1, 4), (2, 2), (4, 8), (8, 64)])
def test_1f1b_bubble_is_that_of_the_paper(pp: int, microbatches: int) -> None:
    """arXiv 2104.04473, section 2.2.1: bubble / ideal = (p - 1) / m."""
    time = pipeline_time(uniform(pp), microbatches, "1f1b", 1)
    assert time.bubble_s / time.busy_s == pytest.approx((pp - 1) / microbatches)


@given(STAGES, st.integers(1, 20), st.sampled_from(["1f1b", "gpipe", "zb-h1", "zb-v", "dualpipev"]))
def test_more_microbatches_give_less_bubble_on_even_stages(
    stages: list[tuple[float, float]], microbatches: int, schedule: str
) -> None:
    times = uniform(len(stages), *stages[0])
    few, many = (pipeline_time(times, m, schedule, 1) for m in (microbatches, 2 * microbatches))
    assert many.total_s <= 2.0 * few.total_s * (1 + 1e-12)
    assert many.bubble_s / many.total_s <= few.bubble_s / few.total_s + 1e-9


@given(STAGES, st.integers(1, 20), st.sampled_from(["1f1b", "gpipe", "zb-h1", "zb-v", "dualpipev"]))
def test_the_pipeline_is_never_faster_than_its_busiest_device(
    stages: list[tuple[float, float]], microbatches: int, schedule: str
) -> None:
    f, b = (np.array(column) for column in zip(*stages, strict=True))
    found = pipeline_time(DeviceTimes(f, b, 0.4 * b), microbatches, schedule, 1)
    assert found.total_s >= microbatches * (f + b).max() * (1 - 1e-12)
    assert found.bubble_s >= -1e-9 * found.total_s


def test_devices_that_end_together_are_judged_by_the_busiest() -> None:
    times = DeviceTimes(np.array([1.0, 2.0, 1.0]), np.array([2.0, 4.0, 2.0]), np.array([1.0, 2.0, 1.0]))
    assert pipeline_time(times, 8, "gpipe", 1).slowest == 1


def test_interleaving_divides_the_bubble() -> None:
    """arXiv 2104.04473, section 2.2.2: bubble / ideal = (p - 1) / (v m)."""
    time = pipeline_time(uniform(8), 32, "1f1b", 4)
    assert time.bubble_s / time.busy_s == pytest.approx(7 / (4 * 32))


def test_zero_bubble_table() -> None:
    """arXiv 2412.19437, table 2, with F = W = 1, B = 2: 1F1B (PP-1)(F+B), ZB1P (PP-1)(F+B-2W), DualPipe below half."""
    pp = 8
    bubbles = {s: pipeline_time(uniform(pp), 64, s, 1).bubble_s for s in ("1f1b", "zb-h1", "dualpipe", "zb-v")}
    assert bubbles["1f1b"] == pytest.approx(21.0)
    assert bubbles["zb-h1"] == pytest.approx(7.0)
    assert bubbles["dualpipe"] == pytest.approx((pp / 2 - 1) * (3 + 2 - 3))
    assert bubbles["zb-v"] == pytest.approx((pp - 1) / 2)  # the last device's wait for its first forward: see below


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.5, 2.0), st.floats(0.5, 4.0)), min_size=1, max_size=6),
    st.integers(0, 12),
)
def test_uneven_stages_bracket_the_played_schedule(stages: list[tuple[float, float]], more: int) -> None:
    """The closed form agrees with the schedule played out: within 8 % for any stage times, mostly exactly."""
    forward, backward = [s[0] for s in stages], [s[1] for s in stages]
    microbatches = 1 + more
    times = DeviceTimes(np.array(forward), np.array(backward), 0.5 * np.array(backward))
    closed = pipeline_time(times, microbatches, "1f1b", 1).total_s
    played = played_1f1b(forward, backward, microbatches)
    assert closed == pytest.approx(played, rel=0.08)


def test_one_slow_stage_is_exact() -> None:
    forward, backward = [1.0, 1.0, 3.0, 1.0], [2.0, 2.0, 6.0, 2.0]
    times = DeviceTimes(np.array(forward), np.array(backward), np.array(forward))
    assert pipeline_time(times, 16, "1f1b", 1).total_s == pytest.approx(played_1f1b(forward, backward, 16), rel=1e-9)


def test_interleaving_with_few_microbatches_waits_for_every_lap() -> None:
    """m < p: each of the v laps takes p chunks' time instead of m, which the schedule played out confirms."""
    time = pipeline_time(uniform(8), 2, "interleaved", 4)
    assert time.bubble_s == pytest.approx((7 + (8 - 2) * 3) * 3.0 / 4)


def test_in_flight_microbatches() -> None:
    """1F1B keeps pp - i, interleaving a little more, GPipe all, DualPipe pp + 1 (arXiv 2412.19437, table 2)."""
    assert list(in_flight(4, 1, 100, "1f1b")) == [4, 3, 2, 1]
    assert in_flight(4, 2, 100, "1f1b")[0] == pytest.approx(4 * (1 + 3 / (4 * 2)))  # arXiv 2205.05198, section 4.2.3
    assert list(in_flight(4, 1, 6, "gpipe")) == [6] * 4
    assert list(in_flight(4, 1, 100, "dualpipe")) == [5] * 4
    assert list(in_flight(4, 1, 100, "dualpipev")) == [4.5] * 4  # 2 pp + 1 stages of half a device (its README)
    assert list(in_flight(4, 1, 100, "zb-h1")) == [4] * 4  # arXiv 2401.10241, section 2.3: the peak of 1F1B everywhere
    assert max(in_flight(8, 1, 2, "1f1b")) == 2
