"""Every shipped model on machines of three makers: prices that physics allows, in every kind of step."""

from __future__ import annotations

import math

import pytest

from supertwin.core.prediction import Prediction
from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.inference.anatomy import anatomy
from supertwin.inference.layouts import Choice, choose, usual_activation, usual_weight
from supertwin.inference.times import scalar
from supertwin.machine import load_system
from supertwin.model import load_model, model_names

SYSTEMS = ("dgx-h200:8", "cm384:32", "mi300x-8")
NAMES = model_names()
BOUNDED = ("linear", "mamba")


def one(name: str, on: str, phase: str, batch: float | None, **lengths: int) -> Prediction:
    model, system = load_model(name), load_system(on)
    weight = usual_weight(model, system.chip)
    formats = Deployment(weight_dtype=weight, activation_dtype=usual_activation(weight, system.chip))
    drawn = InferenceCase(model, system, formats, phase, 1.0, **lengths)  # type: ignore[arg-type]
    return predict(choose(drawn, Choice({}, batch, None)))


@pytest.mark.parametrize("place", range(len(SYSTEMS)))
def test_no_step_beats_the_data_sheet(place: int) -> None:
    """Model i on machine i modulo three: prompts, tokens at two contexts, both together."""
    for name in NAMES[place :: len(SYSTEMS)]:
        on = SYSTEMS[place]
        prompt = one(name, on, "prefill", None, input_len=4096)
        short, long = (one(name, on, "decode", 4.0, kv_len=n) for n in (4096, 32768))
        both = one(name, on, "mixed", 4.0, kv_len=4096, input_len=4096, chunk_tokens=1024)
        for p in (prompt, short, long, both):
            assert math.isfinite(p.step_time_s), name
            assert p.step_time_s > 0.0, name
            assert 0.0 < float(p.figures["mfu"] or 0.0) < 1.0, name
            assert 0.0 < float(p.figures["hbm_use"] or 0.0) < 1.0, name
            assert p.interval[0] < 1.0 < p.interval[1], name
            assert p.memory.peak_bytes > 0.0, name
        if short.layout == long.layout:
            assert long.step_time_s > 0.999 * short.step_time_s, name
            assert long.memory.kv_cache_bytes >= short.memory.kv_cache_bytes, name
        if short.layout == both.layout:
            assert both.step_time_s > short.step_time_s, name


def test_windows_and_states_do_not_grow_with_the_context() -> None:
    system = load_system("dgx-h200:8")
    looked = 0
    for name in NAMES:
        model = load_model(name)
        fixed = [a is not None and (a.kind in BOUNDED or (a.window > 0 and a.compress_ratio == 1))
                 for a in (x.attention for x in model.layers)]  # fmt: skip
        if not any(fixed):
            continue
        times = []
        for kv_len in (16384, 131072):
            step = anatomy(InferenceCase(model, system, Deployment(), "decode", 4.0, kv_len=kv_len))
            layers = [o for o in step.blocks if o.block.layer]
            times.append([sum(scalar(p.time_s) for op, p in o.operators if op.part.startswith("attention"))
                          for o in layers])  # fmt: skip
        for bounded, early, late in zip(fixed, *times, strict=True):
            if bounded:
                assert late == pytest.approx(early), name
                looked += 1
    assert looked > 20
