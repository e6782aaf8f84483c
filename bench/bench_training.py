"""Speed of the training twin: closed form, timeline of a 6,144-chip step, its trace.

The floor for a timeline is set by how fast events can be handled in Python at all: a heap of (time, event) pairs does
about 0.7 million per second, simpy 0.2 million (docs/training-timeline.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.peers import report, say
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.scenarios.load import load_scenario
from supertwin.training import Layout, TrainingCase, predict
from supertwin.training.timeline import Stragglers, play, write_trace

TARGET_PREDICTION_S, TARGET_TIMELINE_S = 2e-3, 2.0


def pangu() -> TrainingCase:
    """Pangu Ultra MoE 718B on 6,144 Ascend 910B in its published layout."""
    scenario = load_scenario("pangu-ultra-moe")
    options = dict(scenario.options)
    layout = Layout(**{name: options.pop(name) for name in ("tp", "pp", "vpp", "ep", "dp")})  # type: ignore[arg-type]
    return TrainingCase(load_model(scenario.model), load_system(scenario.system), layout, **options)  # type: ignore[arg-type]


def dense(**changes: Any) -> TrainingCase:
    """Llama 3.1 405B on 2,304 H100."""
    given: dict[str, Any] = {
        "layout": Layout(tp=8, pp=9, cp=2, dp=16, vpp=7),
        "micro_batch": 1,
        "global_batch": 1008,
        "seq_len": 8192,
        "schedule": "interleaved",
        "framework": "nemo",
    }
    return TrainingCase(load_model("llama3.1-405b"), load_system("dgx-h100:2304"), **(given | changes))


@pytest.mark.parametrize("case", [dense, pangu], ids=["405b-2304", "718b-moe-6144"])
def test_closed_form(benchmark: Any, case: Any, capsys: Any) -> None:
    job = case()
    assert benchmark(predict, job).step_time_s > 0.0
    report(benchmark, {"the target": TARGET_PREDICTION_S}, capsys)


@pytest.mark.parametrize("case", [dense, pangu], ids=["405b-2304", "718b-moe-6144"])
def test_timeline(benchmark: Any, case: Any, capsys: Any) -> None:
    job = case()
    timeline = benchmark(play, job)
    report(benchmark, {"the target": TARGET_TIMELINE_S}, capsys)
    if benchmark.stats is not None:
        median = benchmark.stats.stats.median
        rate = timeline.events / median
        benchmark.extra_info["events_per_s"] = rate
        say(capsys, f"{benchmark.name}: {timeline.events:,} events, {rate:,.0f} events/s, one step in {median:.3f} s")


def test_timeline_with_every_device_at_its_own_speed(benchmark: Any, capsys: Any) -> None:
    """6,144 chips with a spread of 2 %: the slowest pipelines are played beside the first one."""
    job = pangu()
    timeline = benchmark(play, job, Stragglers(sigma=0.02))
    assert timeline.straggler_loss > 0.0
    report(benchmark, {"the target": TARGET_TIMELINE_S}, capsys)


def test_trace_of_6144_chips(benchmark: Any, tmp_path: Path) -> None:
    timeline = play(pangu())
    assert benchmark(write_trace, timeline, str(tmp_path / "step.json.gz")) > timeline.events
