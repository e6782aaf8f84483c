"""Waterfall, lanes, rooflines, what-if and trace of a step: they add up, agree with the prediction, and stay quick."""

from __future__ import annotations

import gzip
import itertools
import json
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from supertwin.inference import predict
from supertwin.inference.anatomy import anatomy
from supertwin.inference.case import Deployment, InferenceCase
from supertwin.inference.changes import Scale
from supertwin.inference.lanes import ATTENTION, COMPUTE, EXCHANGE, EXPERTS, lanes, step_slices
from supertwin.inference.roofline import roofline, roofs
from supertwin.inference.times import scalar
from supertwin.inference.trace import trace_events
from supertwin.inference.waterfall import DRAFTS, IDEAL, OVERLAP, waterfall
from supertwin.inference.waterfall import EXPERTS as UNEVEN
from supertwin.inference.what_if import scaled_s, what_if
from supertwin.machine import load_system
from supertwin.model import load_model
from tests.cli.run import supertwin


def step(model: str, system: str, deployment: Deployment, **options: object) -> InferenceCase:
    """A decode step at 4K unless stated."""
    fields = {"phase": "decode", "batch": 32.0, "kv_len": 4096, **options}
    return InferenceCase(load_model(model), load_system(system), deployment, **fields)  # type: ignore[arg-type]


WIDE = Deployment(
    dp=320, ep=320, dp_attention=True, weight_dtype="int8", activation_dtype="int8", mtp_tokens=1, mtp_acceptance=0.7,
    microbatch_overlap=True, expert_balance="perfect", redundant_experts=32, framework="CloudMatrix-Infer",
)  # fmt: skip
PREFILL = replace(WIDE, dp=32, ep=32, mtp_tokens=0, mtp_acceptance=0.0, expert_balance="natural")
H800 = replace(PREFILL, weight_dtype="fp8", activation_dtype="fp8", framework="deepseek")
STEPS = {
    "decode": step("deepseek-r1", "cm384:320", WIDE),
    "prefill": step("deepseek-r1", "cm384:32", PREFILL, phase="prefill", batch=2.0, kv_len=0, input_len=4096),
    "h800": step("deepseek-r1", "dgx-h800:32", H800, phase="prefill", batch=2.0, kv_len=0, input_len=4096),
    "dense": step("llama-3.1-70b", "dgx-h100:8", Deployment(tp=4, pp=2)),
    "mixed": step("llama-3.1-8b", "dgx-h100:1", Deployment(), phase="mixed", input_len=2048, chunk_tokens=1024),
    "shortcut": step("longcat-flash", "dgx-h800:32", replace(H800, microbatch_overlap=False)),
    "hybrid": step("qwen3-next-80b-a3b", "dgx-h100:4", Deployment(tp=4)),
}


@pytest.mark.parametrize("name", STEPS)
def test_rungs_add_up_to_the_step_and_begin_with_the_roofline(name: str) -> None:
    fall, p = waterfall(STEPS[name]), predict(STEPS[name])
    assert sum(rung.time_s for rung in fall.rungs) == pytest.approx(p.step_time_s, rel=1e-9)
    assert fall.rungs[0].part == IDEAL
    assert 0.0 < fall.rungs[0].time_s <= p.step_time_s
    for before, rung in itertools.pairwise(fall.rungs):
        assert rung.start_s == pytest.approx(before.start_s + before.time_s, abs=1e-6 * p.step_time_s)
    own = sum(layer.count * layer.time_s for layer in fall.layers)
    assert own == pytest.approx(scalar(fall.step.alone().time_s), rel=1e-9)
    for layer in fall.layers:
        assert sum(rung.time_s for rung in layer.rungs) == pytest.approx(layer.time_s, rel=1e-6)


def test_overlap_drafts_and_uneven_experts_are_what_they_change() -> None:
    case = STEPS["h800"]
    parts = {rung.part: rung.time_s for rung in waterfall(case).rungs}
    serial = replace(case, deployment=replace(case.deployment, microbatch_overlap=False))
    even = replace(serial, deployment=replace(serial.deployment, expert_balance="perfect"))
    times = [predict(c).step_time_s for c in (case, serial, even)]
    assert parts[OVERLAP] == pytest.approx(times[0] - times[1], rel=1e-6)
    assert parts[OVERLAP] < 0.0
    assert parts[UNEVEN] == pytest.approx(times[1] - times[2], rel=1e-6)
    assert DRAFTS not in parts
    drafting = {rung.part: rung.time_s for rung in waterfall(STEPS["decode"]).rungs}
    assert drafting[DRAFTS] > 0.0
    assert UNEVEN not in drafting


@pytest.mark.parametrize("name", STEPS)
def test_lanes_are_as_long_as_their_blocks_and_never_overlap_themselves(name: str) -> None:
    found = anatomy(STEPS[name])
    for opened in found.blocks:
        one = lanes(opened, found)
        alone = scalar(found.alone(lambda other, opened=opened: other is opened).time_s)
        assert one.length_s * opened.block.count == pytest.approx(alone, rel=1e-9)
        by_stream = defaultdict(list)
        for piece in one.slices:
            by_stream[piece.stream].append(piece)
        for pieces in by_stream.values():
            pieces.sort(key=lambda piece: piece.start_s)
            for a, b in itertools.pairwise(pieces):
                assert b.start_s >= a.end_s - 1e-12
            assert pieces[-1].end_s <= one.length_s * (1.0 + 1e-9)
    assert max(piece.end_s for _, _, piece in step_slices(found)) == pytest.approx(found.total_s, rel=1e-9)


def test_two_micro_batches_run_on_two_groups_of_cores_or_beside_exchanges() -> None:
    decode, prefill = (anatomy(STEPS[name]) for name in ("decode", "h800"))
    first = next(lanes(o, decode) for o in decode.blocks if o.block.microbatches == 2)
    assert set(first.busy_s()) == {ATTENTION, EXPERTS}
    assert max(first.busy_s().values()) == pytest.approx(
        first.length_s, rel=0.25
    )  # the rest: waiting for the last rank
    second = next(lanes(o, prefill) for o in prefill.blocks if o.block.microbatches == 2)
    assert set(second.busy_s()) == {COMPUTE, EXCHANGE}
    a = [s for s in second.slices if s.stream == COMPUTE and s.batch == "A"]
    sent = next(s for s in second.slices if s.name.endswith("dispatch") and s.batch == "A")
    assert sent.start_s >= next(s for s in reversed(a) if s.name.startswith("attention")).end_s  # its input is there


@pytest.mark.parametrize("name", STEPS)
def test_points_lie_below_their_roofs(name: str) -> None:
    found = anatomy(STEPS[name])
    points, chip = roofline(found), found.case.system.chip
    flop = sum(p.flop * p.executions for p in points)
    assert flop == pytest.approx(scalar(found.times.flop), rel=1e-9)
    for p in points:
        assert p.time_s > 0.0
        if p.intensity:
            roof = min(chip.peak(p.rate), p.intensity * chip.memory_bytes_per_s)
            assert p.of_peak == pytest.approx(p.flop_per_s / chip.peak(p.rate))
            assert p.of_bandwidth == pytest.approx(p.bytes / p.time_s / chip.memory_bytes_per_s)
            cached = (
                1.3 if "absorb" in p.operator else 1.15
            )  # small operands stay in the cache, those of a prolog on chip
            assert p.flop_per_s <= cached * roof, p
    assert list(roofs(found).values()) == sorted(roofs(found).values(), reverse=True)


def test_latent_attention_in_decode_is_bound_by_compute_on_ascend() -> None:
    """CM384 paper, 4.2.2 and table 8: absorbed MLA at 128 heads and two tokens is bound by compute, 65 % of peak."""
    core = next(p for p in roofline(anatomy(STEPS["decode"])) if p.operator == "attention/core")
    assert core.bound == "compute"
    assert core.of_peak == pytest.approx(0.654, abs=0.08)


@pytest.mark.parametrize("name", STEPS)
def test_gains_are_those_of_the_changed_deployment(name: str) -> None:
    case = STEPS[name]
    gains, now = what_if(case), predict(case).tokens_per_s_per_device
    assert [gain.gain for gain in gains] == sorted((gain.gain for gain in gains), reverse=True)
    assert {gain.change.kind for gain in gains} == {"option", "machine"}
    for gain in gains:
        if gain.change.kind == "option":
            p = predict(gain.change.case)
            assert p.memory.fits
            assert gain.gain == pytest.approx(p.tokens_per_s_per_device / now - 1.0, rel=1e-6, abs=1e-9)
        elif gain.change.name.startswith("RDMA"):
            assert gain.gain < 0.0
        else:
            assert gain.gain >= -1e-9, gain.change.name


def test_a_fabric_and_a_host_that_cost_nothing_leave_the_rest() -> None:
    found = anatomy(STEPS["dense"])
    free = scaled_s(found, Scale(0.0, 0.0, 0.0))
    left = sum(scalar(t) for (part, bound), t in found.times.parts.items() if bound != "network" and part != "host")
    waits = sum(scalar(t) for (part, _), t in found.times.parts.items() if part == "pp wait")
    assert left - waits <= free <= left * (1.0 + 1e-9)


def test_the_explanation_is_quick() -> None:
    case = STEPS["decode"]
    predict(case)
    spent = []
    for _ in range(2):
        start = time.process_time()
        what_if(case)
        roofline(waterfall(case).step)
        spent.append(time.process_time() - start)
    assert min(spent) < 0.3


def test_the_trace_has_the_streams_of_the_step() -> None:
    found = anatomy(STEPS["decode"])
    events = list(trace_events(found))
    slices = [e for e in events if e["ph"] == "X"]
    assert max(e["ts"] + e["dur"] for e in slices) == pytest.approx(found.total_s * 1e6, abs=0.01)
    names = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert {ATTENTION, EXPERTS, COMPUTE, EXCHANGE, "host"} == names  # drafts are not overlapped
    layers = {e["args"]["number"] for e in slices if e["args"]["block"] == "latent attention + experts"}
    assert layers == set(range(58))


WORDS = ("infer", "deepseek-r1", "--on", "cm384:32", "--weight-dtype", "int8", "--microbatch-overlap", "--batch", "8")


def test_the_command_explains(tmp_path: Path) -> None:
    trace = tmp_path / "step.json.gz"
    fields = json.loads(supertwin(*WORDS, "--explain", "--json", "--trace", str(trace)).out)
    assert fields["waterfall"][0]["part"] == IDEAL
    assert {row["kind"] for row in fields["what_if"]} == {"option", "machine"}
    assert {"operator", "shape", "flop", "bytes", "bound", "time_s", "share_of_peak"} <= fields["roofline"][0].keys()
    assert {s["batch"] for s in fields["streams"][0]["slices"]} == {"A", "B"}
    assert len(json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]) == fields["trace_events"]
    text = supertwin(*WORDS, "--explain").out
    for title in ("Layer by layer", "Two micro-batches in", "What the next change would buy", "FLOP per byte"):
        assert title in text


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_roofline_is_drawn(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"roofline{suffix}"
    assert supertwin(*WORDS, "--roofline", str(path)).code == 0
    assert path.stat().st_size > 5000


def test_a_picture_that_cannot_be_made_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = supertwin(*WORDS, "--roofline", str(tmp_path / "x.pdf"))
    assert refused.code == 2
    assert "ends with .svg or .png" in refused.err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert supertwin(*WORDS, "--roofline", str(tmp_path / "x.svg")).code == 4


def test_attention_and_experts_apart_are_explained_by_what_if() -> None:
    words = ("infer", "deepseek-r1", "--on", "dgx-h800:32", "--afd", "2A2F", "--batch", "64", "--weight-dtype", "fp8")
    fields = json.loads(supertwin(*words, "--kv-dtype", "fp8", "--explain", "--json").out)
    assert "waterfall" not in fields
    half = next(row for row in fields["what_if"] if row["option"] == "--batch 32")
    less = json.loads(supertwin(*words[:-3], "32", *words[-2:], "--kv-dtype", "fp8", "--json").out)
    rate = less["tokens_per_s_per_device"] / fields["tokens_per_s_per_device"] - 1.0
    assert half["gain"] == pytest.approx(rate, rel=1e-6)


def test_a_mixed_step_with_shortcut_experts_is_no_pair_of_layers() -> None:
    """Two attention cores are one of sequences and one of a chunk."""
    case = step("longcat-flash", "gb200-nvl72:8", Deployment(dp=8, ep=8, dp_attention=True), phase="mixed",
                input_len=2048, chunk_tokens=512)  # fmt: skip
    opened = anatomy(case)
    assert not any(block.block.pair for block in opened.blocks)
    assert opened.total_s == pytest.approx(predict(case).step_time_s, rel=1e-9)
