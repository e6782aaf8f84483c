"""Predicting rows of inference.csv: one row in, its measured metrics beside the predicted ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from supertwin.core.errors import SupertwinError
from supertwin.core.prediction import Z90
from supertwin.core.regimes import Scored
from supertwin.inference.benchmarks import mlperf_samples
from supertwin.inference.case import Deployment
from supertwin.inference.chat import template_s
from supertwin.inference.curves import curves, decode_time
from supertwin.inference.deployment import Curves, Load, Serving, serve
from supertwin.inference.engines import Engine, engine
from supertwin.inference.launch import least_parts, started
from supertwin.inference.memory import largest_batch, total_weights_bytes
from supertwin.inference.pages import chip_of
from supertwin.inference.placement import place
from supertwin.inference.reading import Reading, read
from supertwin.inference.regimes import as_error, interval, regimes
from supertwin.inference.shape import Shape
from supertwin.inference.step import step
from supertwin.inference.uncertainty import interval_of_row
from supertwin.machine import system_for_chip
from supertwin.machine.chip import Chip
from supertwin.machine.system import System
from supertwin.model import load_model
from supertwin.model.spec import ModelSpec

Metric = tuple[str, float, float, float, float]
_TIMES = (("tpot_s", "tpot_ms", "tpot_stat"), ("ttft_s", "ttft_ms", "ttft_stat"), ("step_time_s", "step_ms", ""))
_BINS = {"ascend-910c-die": {"chip-bin-560t": "ascend-910c-die-560t"}, "ascend-910b": {"chip-bin-376t": "ascend-910b2"}}


@dataclass(frozen=True, slots=True)
class Skip:
    """A row that is not predicted, and why."""

    reason: str


def predict_row(row: Mapping[str, object]) -> list[Metric] | Skip:
    """Predict one row (columns of inference.csv, None for empty).

    Returns (metric, measured, predicted, low, high) for every measured metric of the row, or Skip. Metrics: tpot_s,
    ttft_s, step_time_s, output_tokens_per_s_per_device, input_tokens_per_s_per_device. Never raises for a bad row.
    """
    try:
        with np.errstate(all="ignore"):
            figures, reading, chip, about = _figures(row)
    except SupertwinError as error:
        return Skip(str(error))
    except (KeyError, ValueError, ZeroDivisionError, FloatingPointError) as error:
        return Skip(f"cannot be read: {type(error).__name__} {error}")
    out: list[Metric] = []
    for name, measured in _measured(row).items():
        predicted = figures.get(name, math.nan)
        if measured > 0 and math.isfinite(predicted) and predicted > 0:
            names = regimes(name, reading.phase, about, chip, reading.flags)
            low, high = interval(names, sigma_of(reading, chip, name), sign=as_error(name, reading.phase))
            out.append((name, measured, predicted, predicted * low, predicted * high))
    return out or Skip(
        "no metric of the row is a measurement that the model gives (limits, totals and requests are not)"
    )


def sigma_of(reading: Reading, chip: Chip, metric: str) -> float:
    """Composed standard deviation (of the logarithm) of one metric of a row."""
    return math.log(interval_of_row(reading, chip, metric)[1]) / Z90


def scores(rows: Iterable[Mapping[str, object]]) -> list[Scored]:
    """Past errors of every metric of measured rows; lower bounds of CI jobs are not measurements."""
    return [scored for row in rows if row.get("kind") != "ci-floor" for scored in _scores(row)]


def _scores(row: Mapping[str, object]) -> Iterator[Scored]:
    try:
        with np.errstate(all="ignore"):
            figures, reading, chip, about = _figures(row)
    except (SupertwinError, KeyError, ValueError, ZeroDivisionError, FloatingPointError):
        return
    for name, measured in _measured(row).items():
        predicted = figures.get(name, math.nan)
        if measured > 0 and math.isfinite(predicted) and predicted > 0:
            sigma = sigma_of(reading, chip, name)
            error = as_error(name, reading.phase) * math.log(measured / predicted)
            names = regimes(name, reading.phase, about, chip, reading.flags)
            yield Scored(names, error / sigma, sigma, str(row.get("source_group") or ""), name)


def _measured(row: Mapping[str, object]) -> dict[str, float]:
    out: dict[str, float] = {}
    for name in ("output_tokens_per_s_per_device", "input_tokens_per_s_per_device"):
        value = row.get(f"measured_{name}")
        if isinstance(value, int | float):
            out[name] = float(value)
    for name, column, stat in _TIMES:
        value = row.get(f"measured_{column}")
        if isinstance(value, int | float) and (not stat or row.get(stat) != "slo"):
            out[name] = float(value) / 1e3
    return out


@lru_cache(maxsize=256)
def _system(chip: str, devices: int) -> System:
    return system_for_chip(chip, devices)


@lru_cache(maxsize=512)
def _curves(
    model: ModelSpec, key: tuple[str, int], deployments: tuple[Deployment, Deployment],
    lengths: tuple[float, float, float, float], about: Engine, most: float,
) -> Curves:  # fmt: skip
    return curves(model, _system(*key), deployments, lengths, about, most)


def _key(row: Mapping[str, object], flags: frozenset[str]) -> tuple[str, int]:
    chip = chip_of(row)
    bins = _BINS.get(chip, {})
    return next((name for flag, name in bins.items() if flag in flags), chip), int(float(str(row["n_devices"])))


def _figures(row: Mapping[str, object]) -> tuple[dict[str, float], Reading, Chip, Engine]:
    model = load_model(str(row["model"]))
    key = _key(row, frozenset(str(row.get("flags") or "").split(";")))
    system = _system(*key)
    reading = read(row, model, system.chip, total_weights_bytes(model))
    d = reading.deployment
    about = with_options(started(engine(d.framework, system.chip), model, system, d), reading)
    if reading.phase == "kernel-step":
        return _layer(reading, model, system), reading, system.chip, about
    if reading.phase == "decode":
        return _decode(reading, model, system, about), reading, system.chip, about
    if reading.phase == "prefill":
        return _prefill(reading, model, system, about), reading, system.chip, about
    return _serving(reading, model, key, about), reading, system.chip, about


def with_options(about: Engine, r: Reading) -> Engine:
    """The engine with the options of the server that the row names."""
    ranks = r.deployment.dp
    return replace(
        about,
        max_batched_tokens=r.batched_tokens or about.max_batched_tokens,
        memory_fraction=r.memory_share or about.memory_fraction,
        max_num_seqs=max(1, r.most_running // ranks) if r.most_running else about.max_num_seqs,
        held_steps=r.held_steps or about.held_steps,
    )


def _layer(r: Reading, model: ModelSpec, system: System) -> dict[str, float]:
    """One MoE layer of a decode step."""
    p, batch = place(r.deployment), r.batch or 1.0
    b = np.array([batch * p.tp])
    shape = Shape("decode", b, b * p.ranks, 1.0 * r.deployment.new_tokens, r.kv_len)
    return {"step_time_s": float(np.ravel(step(model, system, r.deployment, shape).last_layer_s)[0])}


def _decode(r: Reading, model: ModelSpec, system: System, about: Engine) -> dict[str, float]:
    d = r.deployment
    batch = r.batch
    if batch is None:
        fit = largest_batch(model, system, d, max(r.kv_len, r.input_len + r.output_len), about)
        batch = min(fit, float(about.max_num_seqs * d.dp)) / d.devices
        if r.concurrency:
            batch = min(batch, r.concurrency / r.n_devices)
        r.defaults["batch_per_device"] = batch
    time = float(decode_time(model, system, d, np.array([batch * d.devices]), r.kv_len)[0])
    return {
        "step_time_s": time,
        "tpot_s": time / r.accepted,
        "output_tokens_per_s_per_device": batch * r.accepted / time,
    }


def _prefill(r: Reading, model: ModelSpec, system: System, about: Engine) -> dict[str, float]:
    d, p = r.deployment, place(r.deployment)
    new = max(r.input_len * (1.0 - r.hit_rate), 1.0)
    rank_sequences = (
        r.batch * p.tp * p.pp * p.token_split if r.batch else max(1.0, np.floor(about.max_batched_tokens / new))
    )
    if not r.batch and r.concurrency:
        rank_sequences = min(rank_sequences, max(1.0, r.concurrency / r.instances / p.dp))
    chunks = max(1.0, rank_sequences * new / about.max_batched_tokens)
    b = np.array([max(rank_sequences, 1.0)])
    shared = np.array([max(rank_sequences * p.ranks, 1.0)])
    shape = Shape("prefill", b, shared, new, r.input_len)
    work = float(np.ravel(step(model, system, replace(d, mtp_tokens=0), shape).time_s)[0])
    flow = work / p.pp * (1.0 + (p.pp - 1.0) / chunks)
    prompts = max(rank_sequences * p.dp, 1.0)
    tokens = prompts * r.input_len
    waiting = max(1.0, r.concurrency / r.instances / prompts) if r.concurrency else 1.0
    idle = returning_s(prompts, waiting - 1.0, flow, about) if r.concurrency else 0.0
    return {
        "step_time_s": flow,
        "ttft_s": flow * waiting + about.request_gap_s,
        "input_tokens_per_s_per_device": tokens
        / ((flow if r.concurrency and waiting <= 1.0 else work / p.pp) + idle)
        / d.devices,
    }


def returning_s(prompts: float, steps_waiting: float, step_s: float, about: Engine) -> float:
    """Idle time of a step in a closed loop of prompts: those of the step before come back through one front end, which
    the steps of the prompts that already wait hide."""
    return max(0.0, prompts * about.request_gap_s - steps_waiting * step_s)


def _serving(r: Reading, model: ModelSpec, key: tuple[str, int], about: Engine) -> dict[str, float]:
    d = r.deployment
    prompt = r.input_len + r.template_tokens
    new = max(r.input_len * (1.0 - r.hit_rate) + r.template_tokens, 1.0)
    arrivals = _arrivals(r)
    bounded = {"set": max(r.requests, r.concurrency), "loop": r.concurrency}.get(arrivals, math.inf)
    most = math.inf if r.least_run_s else bounded / r.instances
    split = _split(r)
    if split:
        most = r.concurrency / split[1] if r.concurrency else math.inf
    lengths = (round(prompt, 1), round(new, 1), round(r.output_len, 1), round(r.decoded, 1))
    top = max(2.0, float(round(most))) if most < 1e9 else math.inf
    curve = _curves(model, key, (_prefill_side(r), d), lengths, about, top)
    if "batch-is-configured-max" in r.flags and r.batch:
        configured = r.batch * d.devices
        curve = replace(curve, capacity=min(curve.capacity, configured), seats=min(curve.seats, configured))
    if curve.capacity < 1.0:
        r.defaults["capacity"] = "less than one request fits; one is assumed"
        curve = replace(curve, capacity=1.0)
    front_end = 0.0 if r.counted else about.request_gap_s  # trtllm-bench calls the engine itself
    load = Load(
        arrivals=arrivals, input_len=prompt, new_tokens=new, output_len=r.output_len, accepted=r.accepted,
        concurrency=r.concurrency, rate_per_s=r.rate_per_s, requests=r.requests,
        varied=r.varied, request_gap_s=front_end,
        template_s=0.0 if r.counted or r.data_set else template_s(d.framework, model.name),  # MLPerf sends tokens
        mixes_prefill=about.mixes_prefill,
        tpot_limit_s=r.tpot_limit_s, ttft_limit_s=r.ttft_limit_s,
        longest_over_mean=r.longest_over_mean, prompt_cv2=r.prompt_cv2,
        even=r.even, parts=least_parts(about, model, r.caches), held_steps=about.held_steps,
        least_prompts=float(r.least_prompts),
        gather_steps=about.gather_steps if d.dp_attention else 0.0,
        mean_of_tokens=r.mean_of_tokens, reserved=about.reserved, loads_all=about.loads_all,
        ahead_steps=about.ahead_steps,
    )  # fmt: skip
    if r.least_run_s:
        steady = serve(curve, replace(load, arrivals="saturated"), r.instances, split).requests_per_s
        load = replace(load, requests=mlperf_samples(r.requests, r.least_run_s, steady, offline=True))
    return _rates(serve(curve, load, r.instances, split), r)


def _rates(s: Serving, r: Reading) -> dict[str, float]:
    return {
        "tpot_s": s.tpot_s,
        "ttft_s": s.ttft_s,
        "output_tokens_per_s_per_device": s.requests_per_s * r.output_len / r.n_devices,
        "input_tokens_per_s_per_device": s.requests_per_s * r.input_len / r.n_devices,
    }


def _arrivals(r: Reading) -> str:
    if r.rate_per_s:
        return "poisson"
    if r.phase == "offline" and (r.data_set or r.counted):
        return "set"
    if "all-requests-at-t0" in r.flags or (r.phase == "offline" and r.concurrency and "saturated" in r.flags):
        return "set"
    return "loop" if r.concurrency else "saturated"


def _split(r: Reading) -> tuple[float, float] | None:
    """(prefill instances, decode instances) of a disaggregated row; the prefill side uses its own usual layout."""
    if not r.prefill_devices or not r.decode_devices:
        return None
    decode = max(1.0, r.decode_devices / r.deployment.devices)
    return max(1.0, r.prefill_devices / min(_prefill_size(r), r.prefill_devices)), decode


def _prefill_size(r: Reading) -> int:
    return max(1, min(r.prefill_devices or r.n_devices, 16, max(r.deployment.devices, 8)))


def _prefill_side(r: Reading) -> Deployment:
    """Prefill instances are smaller than decode ones: 8 to 16 devices; MoE with attention DP over pairs of four."""
    if not r.prefill_devices or not r.decode_devices:
        return r.deployment
    size, d = _prefill_size(r), r.deployment
    if d.ep <= 1:
        return replace(d, tp=min(d.tp, size), dp=1, ep=1, dp_attention=False, mtp_tokens=0)
    tp = min(8, size)
    r.defaults["prefill_layout"] = f"tp{tp} dp{size // tp} ep{size}"
    return replace(d, tp=tp, pp=1, dp=size // tp, ep=size, dp_attention=size > tp, mtp_tokens=0, redundant_experts=0)
