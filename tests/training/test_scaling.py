"""Scaling curves: fabrics in order, batches as defined, layouts on the machine, and the climb against every layout."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from supertwin.core.errors import SupertwinError
from supertwin.machine import load_system
from supertwin.machine.system import cut_to_the_node, has_bus_beyond_the_node
from supertwin.model import load_model
from supertwin.training import predict
from supertwin.training.case import Layout, TrainingCase
from supertwin.training.scaling import FABRIC, IDEAL, NODES, curve, efficiency
from supertwin.training.tuning import Tuner

COUNTS = (64, 128, 256)
LAYOUT = frozenset({"tp", "pp", "vpp", "micro_batch"})


def job(system: str = "cm384:256", tp: int = 4) -> TrainingCase:
    """A mixture of experts on 256 devices."""
    return TrainingCase(
        model=load_model("qwen3-30b-a3b"), system=load_system(system), layout=Layout(tp=tp, dp=256 // tp, ep=64),
        micro_batch=1, global_batch=512, seq_len=4096,
    )  # fmt: skip


def test_strong_keeps_the_batch_and_weak_grows_it() -> None:
    strong, weak = (curve(job(), COUNTS, kind, FABRIC, LAYOUT) for kind in ("strong", "weak"))
    assert [point.global_batch for point in strong] == [512, 512, 512]
    assert [point.global_batch for point in weak] == [128, 256, 512]
    for point in (*strong, *weak):
        assert point.tuned is not None
        assert point.tuned.case.layout.devices == point.devices
        assert point.tuned.case.layout.tp == 4
        p = predict(point.tuned.case)
        assert p.memory.fits
        assert p.tokens_per_s_per_device == pytest.approx(point.tokens_per_s_per_device)
    assert efficiency(strong)[0] == 1.0
    assert efficiency(strong)[-1] <= 1.0  # less work per device, the same messages


def test_no_fabric_beats_one_that_costs_nothing_and_the_bus_beats_its_absence() -> None:
    points = {fabric: curve(job(), COUNTS, "weak", fabric, LAYOUT) for fabric in (FABRIC, IDEAL, NODES)}
    for ideal, bus, cut in zip(points[IDEAL], points[FABRIC], points[NODES], strict=True):
        assert ideal.tokens_per_s_per_device >= bus.tokens_per_s_per_device >= 0.999 * cut.tokens_per_s_per_device > 0.0


def test_a_server_has_no_bus_beyond_the_node() -> None:
    assert has_bus_beyond_the_node(load_system("cm384"))
    assert has_bus_beyond_the_node(load_system("gb200-nvl72"))
    assert not has_bus_beyond_the_node(load_system("dgx-h100"))
    assert cut_to_the_node(load_system("dgx-h100")).tiers == load_system("dgx-h100").tiers


def test_nothing_runs_where_nothing_fits() -> None:
    large = replace(job(), model=load_model("deepseek-v3"))
    point = curve(large, (8,), "strong")[0]
    assert point.tokens_per_s_per_device == 0.0
    assert efficiency([point]) == [None]


@pytest.mark.parametrize("start", [Layout(tp=4, dp=64, ep=64), Layout(tp=1, pp=4, dp=64, ep=8)])
def test_the_climb_comes_near_the_best_of_all_layouts(start: Layout) -> None:
    case = replace(job(), layout=start)
    best = 0.0
    for tp, pp, ep, micro, recompute in product((1, 2, 4, 8), (1, 2, 4), (8, 16, 32, 64), (1, 2, 4), ("none", "full")):
        layout = Layout(tp=tp, pp=pp, dp=256 // (tp * pp), ep=ep)
        try:
            p = predict(replace(case, layout=layout, micro_batch=micro, recompute=recompute))
        except SupertwinError:
            continue
        best = max(best, p.tokens_per_s_per_device if p.memory.fits else 0.0)
    found = Tuner().tuned(case)
    assert found is not None
    assert found.tokens_per_s_per_device >= 0.97 * best
