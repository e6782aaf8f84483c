"""The timeline: conservation, agreement with the closed form, stragglers, the trace's form, speed."""

from __future__ import annotations

import gzip
import json
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from supertwin.core.errors import InputError
from supertwin.machine.systems import load_system
from supertwin.model.load import load_model
from supertwin.scenarios.load import load_scenario
from supertwin.training import Layout, TrainingCase, predict
from supertwin.training.timeline import Stragglers, Timeline, play, write_trace
from supertwin.training.timeline.events import COMPUTE
from supertwin.training.timeline.picture import picture
from supertwin.training.timeline.slices import device_slices


def job(model: str = "llama3.1-70b", system: str = "dgx-h100:64", **changes: object) -> TrainingCase:
    case = TrainingCase(
        model=load_model(model),
        system=load_system(system),
        layout=Layout(tp=4, pp=4, dp=4),
        micro_batch=1,
        global_batch=128,
        seq_len=4096,
        framework="nemo",
        launch="graph",
    )
    return replace(case, **changes)  # type: ignore[arg-type]


MOE = {"model": "deepseek-v3", "system": "dgx-h800:256", "layout": Layout(pp=8, dp=32, ep=32), "global_batch": 2048}
BALANCED: dict[str, dict[str, object]] = {
    "1f1b": {},
    "gpipe": {"schedule": "gpipe"},
    "interleaved": {"schedule": "interleaved", "layout": Layout(tp=4, pp=4, dp=4, vpp=5)},
    "interleaved, 8 stages": {"schedule": "interleaved", "layout": Layout(tp=4, pp=8, dp=2, vpp=2)},
    "zb-h1": {"schedule": "zb-h1"},
    "zb-v": {"schedule": "zb-v"},
    "dualpipe": {"schedule": "dualpipe"},
    "dualpipev": {"schedule": "dualpipev"},
    "no pipeline": {"layout": Layout(tp=8, dp=8)},
    "no dp overlap": {"overlap_dp": False},
    "replicated": {"sharding": "none"},
    "zero2": {"sharding": "zero2"},
    "zero2, no overlap": {"sharding": "zero2", "overlap_dp": False},
    "weights kept": {"layout": Layout(dp=64), "sharding": "zero3", "global_batch": 256, "reshard": False},
    "no prefetch": {"layout": Layout(dp=64), "sharding": "zero3", "global_batch": 256, "prefetch": 0},
    "zero3": {"layout": Layout(dp=64), "sharding": "zero3", "global_batch": 256},
    "zero3, slow links": {"layout": Layout(dp=64), "sharding": "zero3", "global_batch": 256, "seq_len": 512},
    "zero3 with a pipeline": {"sharding": "zero3"},
    "hsdp": {"layout": Layout(dp=64), "sharding": "hsdp", "hsdp_shard_size": 8, "global_batch": 256},
    "full recomputation": {"recompute": "full"},
    "partial recomputation": {"recompute": "partial", "recompute_layers": 4},
    "eager": {"launch": "eager"},
    "blocking launches": {"launch": "eager", "blocking": True},
    "messages in line": {"framework": "megatron-deepspeed"},
    "context parallel": {"layout": Layout(tp=4, pp=4, dp=2, cp=2), "global_batch": 64, "seq_len": 16384},
    "offload": {"offload": 0.5, "offload_optimizer": 1.0},
    "tied tables": {"model": "llama3.2-1b", "layout": Layout(pp=4, dp=16), "global_batch": 512},
    "moe": MOE,
    "moe, overlap_ep": {**MOE, "overlap_ep": True},
    "moe, interleaved": {**MOE, "layout": Layout(pp=8, dp=32, ep=32, vpp=2), "schedule": "interleaved"},
    "moe, zb-h1": {**MOE, "schedule": "zb-h1"},
    "moe, zb-v, overlap_ep": {**MOE, "schedule": "zb-v", "overlap_ep": True},
    "moe, dualpipe": {**MOE, "schedule": "dualpipe"},
    "moe, dualpipe, overlap_ep": {**MOE, "schedule": "dualpipe", "overlap_ep": True},
    "moe, dualpipev, overlap_ep": {**MOE, "schedule": "dualpipev", "overlap_ep": True},
    "moe, eager": {**MOE, "launch": "eager", "framework": "megatron-core"},
    "policy update": {"task": "rl", "logprob_passes": 2},
    "moe, gpipe": {**MOE, "schedule": "gpipe"},
}


def pangu() -> TrainingCase:
    """Pangu Ultra MoE 718B on 6,144 Ascend 910B (arXiv 2505.04519)."""
    scenario = load_scenario("pangu-ultra-moe")
    options = dict(scenario.options)
    layout = Layout(**{name: options.pop(name) for name in ("tp", "pp", "vpp", "ep", "dp")})  # type: ignore[arg-type]
    return TrainingCase(load_model(scenario.model), load_system(scenario.system), layout, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", BALANCED)
def test_timeline_and_closed_form_agree_on_balanced_cases(name: str) -> None:
    case = job(**BALANCED[name])  # type: ignore[arg-type]
    timeline = play(case)
    assert timeline.closed.total_s == pytest.approx(predict(case).step_time_s)
    assert timeline.step_time_s == pytest.approx(timeline.closed.total_s, rel=0.05), timeline.because
    assert sum(timeline.parts.values()) == pytest.approx(timeline.step_time_s)
    assert all(seconds >= -1e-9 for seconds in timeline.parts.values())
    for part in ("compute/attention", "compute/mlp", "compute/moe", "compute/head", "optimizer"):
        assert timeline.parts[part] == pytest.approx(timeline.closed.parts[part], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    "name", ["1f1b", "dualpipe", "zero3 with a pipeline", "eager", "offload", "moe, dualpipe, overlap_ep"]
)
def test_streams_do_one_thing_at_a_time_and_nothing_leaves_the_step(name: str) -> None:
    timeline = play(job(**BALANCED[name]))  # type: ignore[arg-type]
    ends: defaultdict[tuple[int, int], float] = defaultdict(float)
    events = timeline.pipelines[0].played.log.events
    for event in events:
        assert 0.0 <= event.start_s <= event.end_s <= timeline.step_time_s * (1 + 1e-9)
        assert event.start_s >= ends[event.device, event.stream] - 1e-12
        ends[event.device, event.stream] = event.end_s
        cause = events[event.after].end_s if event.after >= 0 else 0.0
        assert event.start_s == pytest.approx(cause, abs=1e-12), "an event starts when what it waits for ends"


def test_offloaded_activations_travel_beside_their_passes() -> None:
    """Every microbatch leaves once and comes back once, each direction on its own stream."""
    plain, moved = play(job()), play(job(offload=0.5))
    for stage, role in enumerate(moved.roles()):
        out, back = role["busy_s"]["copy to host"], role["busy_s"]["copy from host"]
        assert out == pytest.approx(32 * moved.work.forward.copy_s[stage])
        assert back == pytest.approx(32 * moved.work.backward.copy_s[stage])
    assert "copy to host" not in plain.roles()[0]["busy_s"]
    assert moved.step_time_s >= plain.step_time_s


def test_more_microbatches_are_more_of_the_same() -> None:
    """In the steady state every microbatch takes the time of the slowest stage."""
    steps = [play(job(global_batch=size, overlap_dp=False)) for size in (256, 512)]
    busy = max(steps[0].roles(), key=lambda role: role["busy_s"]["compute"])["busy_s"]["compute"]
    grown = steps[1].step_time_s - steps[0].step_time_s
    assert grown == pytest.approx(busy, rel=0.02)


def test_a_difference_is_named_with_its_chain() -> None:
    case = job(global_batch=16, schedule="zb-v", layout=Layout(tp=4, pp=8, dp=2))
    timeline = play(case)
    words = timeline.because
    assert "longest chain: " in words
    assert " of stage " in words
    part = max(timeline.parts, key=lambda name: abs(timeline.parts[name] - timeline.closed.parts.get(name, 0.0)))
    assert part in words or "no part differs" in words


def test_chunks_of_unequal_work_are_named() -> None:
    """Every device has 20 layers, but one lap's chunks are heavy on half of the devices, the next lap's on the rest."""
    stages = (15, 15, 5, 5, 5, 5, 15, 15)
    even = job(layout=Layout(tp=4, pp=4, dp=4, vpp=2), schedule="interleaved")
    timeline = play(replace(even, stages=stages))
    assert timeline.step_time_s > 1.05 * play(replace(even, stages=(10,) * 8)).step_time_s
    assert timeline.step_time_s > timeline.closed.total_s
    assert "chunks of unequal work" in timeline.because


def test_a_slow_stage_slows_every_microbatch() -> None:
    """One device 1.3 times slower: its pipeline runs at its pace and all replicas wait for it."""
    even, slow = play(job()), play(job(), Stragglers(stages={2: 1.3}))
    assert 0.15 < slow.straggler_loss < 0.3
    assert slow.step_time_s == pytest.approx(even.step_time_s * (1.0 + slow.straggler_loss))
    assert len(slow.pipelines) == 2
    roles = {role["role"]: role for role in slow.roles()}
    assert (roles["pipeline stage 2"]["slowdown"], roles["slow pipeline 1 stage 2"]["slowdown"]) == (1.0, 1.3)
    assert roles["pipeline stage 2"]["devices"] + roles["slow pipeline 1 stage 2"]["devices"] == 16  # tp 4, dp 4
    assert play(job(), Stragglers(stages={2: 1.0})).straggler_loss == pytest.approx(0.0)


def test_stragglers_by_rank_and_by_stage_are_the_same_thing() -> None:
    """64 ranks, tp innermost and pp outermost: rank 40 lies in stage 2."""
    by_rank, by_stage = play(job(), Stragglers(devices={40: 1.2})), play(job(), Stragglers(stages={2: 1.2}))
    assert by_rank.step_time_s == pytest.approx(by_stage.step_time_s)
    inside = job(order=("tp", "pp", "cp", "ep", "dp"))  # stages 4 ranks apart: rank 8 lies in stage 2
    by_rank, by_stage = play(inside, Stragglers(devices={8: 1.2})), play(inside, Stragglers(stages={2: 1.2}))
    assert by_rank.straggler_loss == pytest.approx(by_stage.straggler_loss)
    assert by_rank.straggler_loss > 0.05


def test_a_spread_of_speeds_is_repeatable_and_costs_more_the_wider() -> None:
    losses = [play(job(), Stragglers(sigma=sigma, seed=7)).straggler_loss for sigma in (0.0, 0.01, 0.03)]
    assert losses[0] == pytest.approx(0.0)
    assert losses[0] < losses[1] < losses[2]
    assert play(job(), Stragglers(sigma=0.03, seed=7)).straggler_loss == losses[2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Stragglers(stages={4: 1.2}), "straggler stage 4; the job has stages 0 to 3"),
        (Stragglers(devices={64: 1.2}), "straggler device 64; the job has devices 0 to 63"),
        (Stragglers(stages={0: 0.0}), "straggler factor 0; expected a positive number"),
    ],
)
def test_impossible_stragglers_are_refused(given: Stragglers, message: str) -> None:
    with pytest.raises(InputError, match=message):
        play(job(), given)


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_trace_has_the_form_that_perfetto_reads(suffix: str, tmp_path: Path) -> None:
    """Chrome trace-event form: X and M events; per thread no two slices overlap unless one lies inside the other."""
    timeline, path = play(job(schedule="zb-h1"), Stragglers(stages={1: 1.1})), tmp_path / f"step{suffix}"
    count = write_trace(timeline, str(path))
    text = gzip.decompress(path.read_bytes()).decode() if suffix.endswith("gz") else path.read_text()
    trace = json.loads(text)
    assert len(trace["traceEvents"]) == count
    assert {event["ph"] for event in trace["traceEvents"]} == {"X", "M"}
    named = {(e["pid"], e["tid"]) for e in trace["traceEvents"] if e["ph"] == "M" and e["name"] == "thread_name"}
    threads: defaultdict[tuple[int, int], list[dict[str, float]]] = defaultdict(list)
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            assert event["ts"] >= 0.0
            assert event["dur"] >= 0.0
            assert event["ts"] + event["dur"] <= timeline.step_time_s * 1e6 + 0.002
            threads[event["pid"], event["tid"]].append(event)
    assert threads.keys() == named
    for events in threads.values():
        _check_nesting(events)
    assert len({pid for pid, _ in threads}) == 8


def _check_nesting(events: list[dict[str, float]]) -> None:
    outer_end = last = 0.0
    for event in events:
        assert event["ts"] >= last, "starts are in order"
        last = event["ts"]
        end = event["ts"] + event["dur"]
        if event["cat"] == "part":
            assert end <= outer_end + 0.002
        else:
            assert event["ts"] >= outer_end - 0.002
            outer_end = end


def test_busy_time_of_a_stream_is_the_sum_of_its_slices() -> None:
    timeline = play(job(schedule="dualpipe"))
    assert timeline.reference[0] == 0
    for stage, role in enumerate(timeline.roles()):
        compute = sum(
            event.end_s - event.start_s
            for event in (*timeline.pipelines[0].played.log.events, *timeline.closing)
            if event.device == stage and event.stream == COMPUTE
        )
        assert role["busy_s"]["compute"] == pytest.approx(compute)
        for stream, busy in role["busy_s"].items():
            slices = [s for s in device_slices(timeline, 0, stage) if s.stream == stream and not s.inside]
            assert sum(s.end_s - s.start_s for s in slices) == pytest.approx(busy)


def test_the_picture_shows_every_stage() -> None:
    lines = picture(play(job()), 59)
    assert [len(line) for line in lines] == [59] * 4
    assert lines[0].startswith("F")
    assert lines[0][29] == "~"  # 32 microbatches do not fit into 60 letters
    assert len(picture(play(job(global_batch=16)), 200)[0]) == 200
    assert lines[3].startswith(".")  # waits for the first microbatch
    assert {"F", "B", "."} <= set("".join(lines))


def test_a_step_of_6144_chips_is_played_in_two_seconds() -> None:
    case = pangu()
    start = time.process_time()
    timeline = play(case)
    assert time.process_time() - start < 2.0
    assert case.layout.devices == 6144
    assert timeline.step_time_s == pytest.approx(timeline.closed.total_s, rel=0.05)
    assert timeline.events > 10_000
    assert len(timeline.roles()) == 16


def test_the_same_case_gives_the_same_timeline() -> None:
    first, second = (_printed(play(job(schedule="dualpipev"))) for _ in range(2))
    assert first == second


def _printed(timeline: Timeline) -> str:
    return json.dumps(timeline.fields())
