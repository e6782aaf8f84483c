"""Max-min fair rates: hand cases, an independent linear program, invariants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from supertwin.core.errors import InputError
from supertwin.network.flow import FlowClasses, rates
from supertwin.network.flow.rates import IDLE, NO_ROUTE, NOTHING, OWN_LIMIT
from tests.network.flow.build import make


def test_two_flows_share_one_link() -> None:
    found = rates(make([[1], [1]], [10.0]))
    assert found.bytes_per_s.tolist() == [5.0, 5.0]
    assert found.load_bytes_per_s.tolist() == [10.0]
    assert found.bottleneck.tolist() == [0, 0]


def test_parking_lot() -> None:
    # one long flow over three links, one short flow on each; Bertsekas and Gallager, figure 6.17 in kind
    found = rates(make([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], [1.0, 2.0, 3.0]))
    assert found.bytes_per_s == pytest.approx([0.5, 0.5, 1.5, 2.5], rel=1e-15)
    assert found.bottleneck.tolist() == [0, 0, 1, 2]


def test_incast_of_many_senders_is_one_class() -> None:
    # 63 senders with links of 28 into one receiver with a link of 28: columns sender link, receiver link
    found = rates(make([[1, 63]], [28.0, 28.0], flows=63))
    assert found.bytes_per_s[0] == pytest.approx(28.0 / 63, rel=1e-15)
    assert found.bottleneck[0] == 1


def test_weights_limits_and_priorities() -> None:
    assert rates(make([[1], [1]], [9.0], weight=[1, 2])).bytes_per_s == pytest.approx([3.0, 6.0])
    limited = rates(make([[1], [1]], [9.0], limit=[2.0, np.inf]))
    assert limited.bytes_per_s == pytest.approx([2.0, 7.0])
    assert limited.bottleneck.tolist() == [OWN_LIMIT, 0]
    strict = rates(make([[1], [1], [1]], [9.0], priority=[1, 0, 2], limit=[3.0, 4.0, np.inf]))
    assert strict.bytes_per_s == pytest.approx([3.0, 4.0, 2.0])
    starved = rates(make([[1], [1]], [9.0], priority=[0, 1]))
    assert starved.bytes_per_s.tolist() == [9.0, 0.0]


def test_degenerate_inputs() -> None:
    classes = make([[1, 0], [0, 0], [0, 1], [0, 1]], [0.0, 4.0], limit=[np.inf, np.inf, 0.0, np.inf])
    found = rates(classes)
    assert found.bytes_per_s.tolist() == [0.0, np.inf, 0.0, 4.0]
    assert found.bottleneck.tolist() == [0, NOTHING, NO_ROUTE, 1]
    assert found.unreachable.tolist() == [2]
    only = rates(classes, np.array([False, False, False, True]))
    assert only.bottleneck.tolist() == [IDLE, IDLE, IDLE, 1]
    assert rates(make(np.zeros((0, 2)), [1.0, 1.0])).load_bytes_per_s.tolist() == [0.0, 0.0]


def test_bad_inputs_are_named() -> None:
    good = make([[1], [1]], [9.0])
    for change, word in (
        ({"usage": np.ones((2, 2))}, "usage"),
        ({"flows": np.array([1.0, -1.0])}, "flows"),
        ({"bytes_each": np.array([1.0, np.nan])}, "bytes_each"),
        ({"weight": np.array([1.0, 0.0])}, "weight"),
        ({"latency_s": np.zeros(3)}, "latency_s"),
        ({"usage": np.array([[1.0], [np.inf]])}, "usage"),
    ):
        with pytest.raises(InputError, match=word):
            rates(replace(good, **change))


def lexicographic(classes: FlowClasses) -> np.ndarray:
    """Max-min rates by repeated linear programs: raise the least rate, fix whoever cannot exceed it, go on."""
    count = len(classes.names)
    weight = np.ones(count) if classes.weight is None else classes.weight
    fixed = np.full(count, np.nan)
    while np.isnan(fixed).any():
        free = np.isnan(fixed)
        low, high = np.where(free, 0.0, fixed), np.where(free, classes.limit_bytes_per_s, fixed)
        # unknowns: rates, then the common level t; free rates are at least weight x t
        above = np.hstack([-np.eye(count)[free], weight[free, None]])
        below = np.hstack([classes.usage.T, np.zeros((len(classes.link_names), 1))])
        bounds = [*zip(low, [None if np.isinf(h) else h for h in high], strict=True), (0, None)]
        rows = np.vstack([above, below])
        right = np.concatenate([np.zeros(int(free.sum())), classes.capacity_bytes_per_s])
        goal = np.zeros(count + 1)
        goal[-1] = -1
        level = -linprog(goal, rows, right, bounds=bounds).fun
        for index in np.flatnonzero(free):
            most = np.zeros(count)
            most[index] = -1
            least = np.where(free, weight * level * (1 - 1e-11), fixed)
            box = [(lo, None if np.isinf(h) else h) for lo, h in zip(least, high, strict=True)]
            best = -linprog(most, classes.usage.T, classes.capacity_bytes_per_s, bounds=box).fun
            if best <= weight[index] * level * (1 + 1e-7) + 1e-9:
                fixed[index] = weight[index] * level
    return fixed


@pytest.mark.parametrize("seed", range(25))
def test_equals_repeated_linear_programs(seed: int) -> None:
    draw = np.random.default_rng(seed)
    count, width = int(draw.integers(2, 8)), int(draw.integers(1, 6))
    usage = draw.integers(0, 4, (count, width)) * (draw.random((count, width)) < 0.6)
    usage[~usage.any(axis=1), 0] = 1
    classes = make(
        usage,
        draw.integers(1, 20, width).astype(float).tolist(),
        weight=draw.integers(1, 4, count),
        limit=np.where(draw.random(count) < 0.3, draw.integers(1, 5, count), np.inf),
    )
    assert rates(classes).bytes_per_s == pytest.approx(lexicographic(classes), rel=1e-6)


@st.composite
def instances(draw: st.DrawFn) -> FlowClasses:
    count, width = draw(st.integers(1, 7)), draw(st.integers(1, 5))
    share = st.sampled_from([0.0, 0.0, 1.0, 0.25, 1 / 7, 3.0, 0.1])
    usage = np.array(draw(st.lists(st.lists(share, min_size=width, max_size=width), min_size=count, max_size=count)))
    number = st.floats(0.01, 1e3)
    return make(
        usage,
        draw(st.lists(st.one_of(st.just(0.0), number), min_size=width, max_size=width)),
        bytes_each=draw(st.lists(number, min_size=count, max_size=count)),
        limit=draw(st.lists(st.one_of(st.just(np.inf), number), min_size=count, max_size=count)),
        priority=draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)),
        weight=draw(st.lists(st.sampled_from([1.0, 2.0, 0.5]), min_size=count, max_size=count)),
    )


@given(instances())
@settings(max_examples=80, deadline=None)
def test_no_link_above_capacity_and_every_class_is_stopped_by_something(classes: FlowClasses) -> None:
    found = rates(classes)
    finite = np.where(np.isinf(found.bytes_per_s), 0.0, found.bytes_per_s)
    load = finite @ classes.usage
    assert load == pytest.approx(found.load_bytes_per_s, rel=1e-12, abs=1e-12)
    assert (load <= classes.capacity_bytes_per_s * (1 + 1e-12)).all()
    assert (found.bytes_per_s <= classes.limit_bytes_per_s).all()
    assert classes.weight is not None
    for index, link in enumerate(found.bottleneck):
        if link == OWN_LIMIT:
            assert found.bytes_per_s[index] == pytest.approx(classes.limit_bytes_per_s[index], rel=1e-11)
        elif link >= 0:
            # a full link on which nobody of the same or a lower priority has more per weight: the max-min condition
            assert load[link] == pytest.approx(classes.capacity_bytes_per_s[link], rel=1e-11)
            others = (classes.usage[:, link] > 0) & (classes.priority >= classes.priority[index])
            level = found.bytes_per_s / classes.weight
            assert (level[others] <= level[index] * (1 + 1e-11)).all()


@given(instances(), st.integers(0, 4), st.floats(1.0, 10.0))
@settings(max_examples=50, deadline=None)
def test_more_bandwidth_never_lowers_the_least_rate(classes: FlowClasses, link: int, factor: float) -> None:
    classes = replace(classes, priority=np.zeros_like(classes.priority))
    more = classes.capacity_bytes_per_s.copy()
    more[link % more.size] *= factor
    assert classes.weight is not None
    before = (rates(classes).bytes_per_s / classes.weight).min()
    after = (rates(replace(classes, capacity_bytes_per_s=more)).bytes_per_s / classes.weight).min()
    assert after >= before * (1 - 1e-12)


@given(instances(), st.integers(0, 6))
@settings(max_examples=50, deadline=None)
def test_splitting_a_class_into_identical_halves_changes_nothing(classes: FlowClasses, which: int) -> None:
    which %= len(classes.names)
    order = np.append(np.arange(len(classes.names)), which)
    halves = np.ones(order.size)
    halves[[which, -1]] = 0.5
    twice = replace(
        classes, names=tuple(f"c{i}" for i in range(order.size)), flows=classes.flows[order] * halves,
        bytes_each=classes.bytes_each[order], usage=classes.usage[order] * halves[:, None],
        limit_bytes_per_s=classes.limit_bytes_per_s[order], priority=classes.priority[order],
        start_s=classes.start_s[order], latency_s=classes.latency_s[order],
        weight=None if classes.weight is None else classes.weight[order],
    )  # fmt: skip
    one, two = rates(classes), rates(twice)
    assert two.bytes_per_s == pytest.approx(one.bytes_per_s[order], rel=1e-11)


@given(instances(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_order_of_classes_and_links_does_not_matter(classes: FlowClasses, random: object) -> None:
    draw = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    order, columns = draw.permutation(len(classes.names)), draw.permutation(len(classes.link_names))
    moved = replace(
        classes, usage=classes.usage[order][:, columns], capacity_bytes_per_s=classes.capacity_bytes_per_s[columns],
        limit_bytes_per_s=classes.limit_bytes_per_s[order], priority=classes.priority[order],
        weight=None if classes.weight is None else classes.weight[order],
    )  # fmt: skip
    assert rates(moved).bytes_per_s == pytest.approx(rates(classes).bytes_per_s[order], rel=1e-11)
