"""Flows from start to finish: hand cases, conservation, answers for what never ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from supertwin.core.errors import InputError
from supertwin.network.flow import FlowClasses, run
from tests.network.flow.build import make
from tests.network.flow.test_rates import instances


def test_two_flows_one_link_then_one_alone() -> None:
    # 10 bytes/s; sizes 10 and 30: both at 5 until t = 2, then the second at 10 for its last 20 bytes
    done = run(make([[1], [1]], [10.0], bytes_each=[10.0, 30.0], latency=[0.5, 0.25]))
    assert done.finish_s == pytest.approx([2.5, 4.25])
    assert done.drained_s == pytest.approx([2.0, 4.0])
    assert done.times_s == pytest.approx([0.0, 2.0, 4.0])
    assert done.rate_bytes_per_s == pytest.approx(np.array([[5.0, 5.0], [0.0, 10.0]]))
    assert done.link_bytes == pytest.approx([40.0])
    assert done.utilisation() == pytest.approx([1.0])
    assert done.solved == 2


def test_late_start_and_fixed_cost() -> None:
    # the second begins at 1 and needs 0.5 before its first byte: alone until 1.5, then half each
    done = run(make([[1], [1]], [10.0], bytes_each=[20.0, 10.0], start=[0.0, 1.0]), fixed_s=[0.0, 0.5])
    assert done.first_byte_s == pytest.approx([0.0, 1.5])
    assert done.finish_s == pytest.approx([2.5, 3.0])


def test_phases_wait_for_the_delivery_of_others() -> None:
    done = run(make([[1], [1], [1]], [10.0], bytes_each=[10.0, 10.0, 5.0], latency=0.1), after=[(), (0,), (0, 1)])
    assert done.finish_s == pytest.approx([1.1, 2.2, 2.8])
    assert done.ready_s == pytest.approx([0.0, 1.1, 2.2])
    assert done.times_s == pytest.approx([0.0, 1.0, 1.1, 2.1, 2.2, 2.7])
    assert done.load_bytes_per_s[:, 0] == pytest.approx([10.0, 0.0, 10.0, 0.0, 10.0])


def test_classes_without_bytes_or_links_end_at_once() -> None:
    done = run(make([[1], [0]], [10.0], bytes_each=[0.0, 7.0], latency=0.5), fixed_s=1.0)
    assert done.finish_s == pytest.approx([1.5, 1.5])
    assert done.finished
    assert run(make(np.zeros((0, 1)), [1.0])).time_s == 0.0


def test_what_never_ends_has_a_reason() -> None:
    classes = make([[1, 0], [0, 1], [0, 1], [1, 0]], [0.0, 5.0], bytes_each=5.0, limit=[np.inf, 0.0, np.inf, np.inf])
    done = run(classes, after=[(), (), (), (0,)])
    assert done.time_s == np.inf
    assert not done.finished
    assert done.finish_s[2] == pytest.approx(1.0)
    assert done.reasons == {
        0: "c0 gets nothing on l0",
        1: "c1: no route",
        3: "c3 waits for classes that never end, or for itself",
    }
    loop = run(make([[1], [1]], [1.0]), after=[(1,), (0,)])
    assert set(loop.reasons) == {0, 1}


def test_starved_class_goes_on_when_the_higher_priority_has_ended() -> None:
    done = run(make([[1], [1]], [10.0], bytes_each=[10.0, 10.0], priority=[1, 0]))
    assert done.finish_s == pytest.approx([2.0, 1.0])


def test_bad_dependencies_are_named() -> None:
    with pytest.raises(InputError, match="waits for class 7"):
        run(make([[1]], [1.0]), after=[(7,)])
    with pytest.raises(InputError, match="expected 1"):
        run(make([[1]], [1.0]), after=[(), ()])
    with pytest.raises(InputError, match="fixed_s"):
        run(make([[1]], [1.0]), fixed_s=-1.0)


@given(instances())
@settings(max_examples=60, deadline=None)
def test_bytes_are_conserved_and_events_are_bounded(classes: FlowClasses) -> None:
    done = run(classes)
    ended = np.isfinite(done.finish_s)
    expected = np.where(ended, classes.bytes_each, 0.0) @ classes.usage
    busy = classes.capacity_bytes_per_s > 0
    blocked = np.flatnonzero(~ended)
    assert all(classes.usage[i, ~busy].any() for i in blocked)
    assert done.link_bytes == pytest.approx(expected, rel=1e-9, abs=1e-9)
    # what each interval carried adds up to the same
    lengths = np.diff(done.times_s)
    assert lengths @ done.load_bytes_per_s == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert (done.load_bytes_per_s <= classes.capacity_bytes_per_s * (1 + 1e-12)).all()
    assert done.solved <= 2 * len(classes.names)
    slowest = done.link_bytes[busy] / classes.capacity_bytes_per_s[busy]
    assert done.drained_s[ended].max(initial=0.0) >= slowest.max(initial=0.0) * (1 - 1e-9)
