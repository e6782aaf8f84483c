"""Whatever a configuration holds, the answer is a spec or a ModelError."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import supertwin
from supertwin.core.errors import InputError, ModelError
from supertwin.model import load_model, model_names, parameter_count, spec_from_config
from supertwin.workload import Shard, Step, model_operators

MODELS = Path(supertwin.__file__).parent / "data" / "models"
JUNK = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**20), 10**20),
        st.sampled_from([0, 1, -1, 2, 3, 7, 64, 1 << 14, 1 << 24, 1 << 40]),
        st.floats(allow_nan=True, allow_infinity=True),
        st.text(max_size=8),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
SAMPLE = [
    "deepseek-v3.2", "deepseek-v4-flash", "glm-5.2", "gpt-oss-20b", "kimi-k3", "llama-3.1-8b", "llama4-scout-17b-16e",
    "longcat-flash", "minimax-m3", "mixtral-8x7b", "nemotron3-super-120b-a12b", "pangu-pro-moe-72b", "palm-540b",
    "qwen3.5-397b-a17b", "gemma4-26b-a4b", "gpt3-175b", "ci-gpt4-l2", "qwen3-235b-a22b",
]  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {n: json.loads((MODELS / f"{n}.json").read_text()) for n in SAMPLE}


def finite_or_error(config: object) -> None:
    complaint = ""
    try:
        model = spec_from_config(config)
    except ModelError as error:
        complaint = str(error)
    if complaint:
        assert 10 < len(complaint) < 600
        return
    assert math.isfinite(parameter_count(model).total)
    assert parameter_count(model).total > 0
    assert model.n_layers > 0
    ops = model_operators(model, Step(phase="decode", sequences=1, q_len=1, kv_len=100), Shard())
    assert ops


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(SAMPLE), data=st.data())
def test_mutated_fields(name: str, data: st.DataObject) -> None:
    config = dict(CONFIGS[name])
    fields = data.draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=3))
    for field in fields:
        if data.draw(st.booleans()):
            config.pop(field, None)
        else:
            config[field] = data.draw(JUNK)
    finite_or_error(config)


@settings(max_examples=100, deadline=None)
@given(config=JUNK)
def test_junk(config: object) -> None:
    finite_or_error(config)


@settings(max_examples=100, deadline=None)
@given(name=st.text(max_size=40))
def test_any_name(name: str) -> None:
    with contextlib.suppress(InputError):
        load_model(name)


def test_every_family_is_in_the_sample() -> None:
    def family(name: str) -> str:
        return load_model(name).architecture

    assert {family(n) for n in SAMPLE} <= {family(n) for n in model_names()}
    assert len({family(n) for n in SAMPLE}) >= 15
