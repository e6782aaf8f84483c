"""Few cores of the host: processes that share a core, against published steps, and what must not change."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.inference import Deployment, InferenceCase, predict, sweep
from supertwin.inference.carried import Arrivals
from supertwin.inference.curves import curves
from supertwin.inference.deployment import Load, serve
from supertwin.inference.engines import PYTHON_OPERATOR_S as OPERATOR_S
from supertwin.inference.engines import engine
from supertwin.inference.host import REPLY_S, STEP_S, capacity, processes, shortage, usual_issue_s
from supertwin.inference.launch import least_parts
from supertwin.inference.pages import options
from supertwin.inference.placement import place
from supertwin.inference.shape import Shape
from supertwin.inference.step import step
from supertwin.inference.what_if import what_if
from supertwin.machine import load_system
from supertwin.model import load_model

H200 = load_system("dgx-h200:8")
QWEN, HYBRID = load_model("qwen3-30b-a3b"), load_model("qwen3.5-35b-a3b")
VLLM = Deployment(tp=8, framework="vLLM 0.16")
ENGINES = ("vLLM 0.16", "vLLM 0.10", "SGLang 0.5.6", "TensorRT-LLM 0.17", "TensorRT-LLM 1.0", "")


def case(phase: str, cores: float, framework: str = "vLLM 0.16") -> InferenceCase:
    d = Deployment(tp=8, framework=framework, host_cores=cores)
    return InferenceCase(QWEN, H200, d, phase, 2.0, 512, 1024, 0, 256 if phase == "mixed" else 0)


@given(st.integers(1, 64), st.floats(0.1, 200.0), st.floats(0.0, 50.0))
def test_capacity_grows_with_cores_up_to_the_processes(n: int, cores: float, more: float) -> None:
    assert 0.0 < capacity(n, cores) <= capacity(n, cores + more) <= n
    assert capacity(n, n) == n
    assert capacity(n, cores) >= min(n, cores) - 1e-12


def test_two_threads_of_a_core_are_worth_1_3_processes() -> None:
    assert capacity(9, 1) == pytest.approx(1.3)
    assert capacity(9, 8) == pytest.approx(8 + 0.3)  # one core runs two of nine: (9 - 2) + 2 x 0.65


def test_processes_are_those_of_the_architecture() -> None:
    """vLLM, docs/design/arch_overview.md: tp 4 has 4 workers and 1 engine core, tp 2 with dp 4 has 8 and 4; API servers
    and the coordinator are not counted here. Asynchronous scheduling spins in a thread; SGLang's workers schedule."""
    plain, spins, sglang = (engine(name, H200.chip) for name in ("vLLM 0.10", "vLLM 0.16", "SGLang 0.5.6"))
    assert [processes(about, H200, 4, 1) for about in (plain, spins, sglang)] == [5, 6, 4]
    assert [processes(about, H200, 8, 4) for about in (plain, spins, sglang)] == [12, 16, 8]
    assert processes(plain, load_system("dgx-h200:16"), 16, 16) == 16


@pytest.mark.parametrize("framework", ENGINES)
@pytest.mark.parametrize("phase", ["prefill", "decode", "mixed"])
def test_enough_cores_change_nothing_and_more_are_never_slower(phase: str, framework: str) -> None:
    usual = predict(case(phase, 0.0, framework)).step_time_s
    times = [
        predict(case(phase, c, framework)).step_time_s for c in (0.25, 0.5, 1, 2, 4, 5, 6, 7, 8, 9, 9.5, 10, 11, 64)
    ]
    assert all(a >= b for a, b in itertools.pairwise(times))
    assert times[-3:] == [usual] * 3
    assert times[0] > usual


def test_one_core_takes_as_long_as_all_of_its_processes_one_after_the_other() -> None:
    """Eight workers, a scheduler and a thread that spins, where the device has long finished."""
    d = replace(VLLM, host_cores=1.0)
    times = step(QWEN, H200, d, Shape("prefill", 1.0, 1.0, 16.0, 16.0))
    host = 10 * (STEP_S + times.issued * OPERATOR_S) / 1.3
    assert float(np.ravel(times.time_s)[0]) == pytest.approx(host)
    sampled = curves(QWEN, H200, (d, d), (16.0, 16.0, 64.0, 32.0), engine(d.framework, H200.chip), 4.0)
    assert float(sampled.prompt_host(0.0)) == pytest.approx(host)


def test_what_one_core_takes_of_a_round() -> None:
    """Equation (2): steps of all micro-batches, replies of all ranks."""
    about = engine("vLLM 0.10", H200.chip)
    for d in (Deployment(tp=1, dp=8, dp_attention=True), Deployment(tp=1, pp=4, dp=2)):
        lacks, n = shortage(about, H200, 1.0, place(d)), processes(about, H200, 8, d.dp)
        assert lacks.step_s == pytest.approx(d.pp * n * STEP_S / 1.3)
        assert lacks.sequence_s == pytest.approx(d.pp * d.dp * REPLY_S / 1.3)
        assert (lacks.operator_s, lacks.instead) == (pytest.approx(n * OPERATOR_S / 1.3), 1.0)


@pytest.mark.parametrize(
    ("model", "tp", "phase", "step_s", "within"),
    [
        ("qwen3-30b-a3b", 4, "decode", 34.4e-3, 0.05),  # vLLM issue 45709: compiled, no graphs, L20
        ("qwen3-30b-a3b", 4, "decode", 35.2e-3, 0.05),  # the same on RTX 4090D
        ("qwen3.8-27b", 1, "decode", 41.7e-3, 0.05),  # 23.97 tokens/s eager, local-inference-lab/vllm pull request 314
        ("qwen2.5-7b", 1, "decode", 22e-3, 0.25),  # vllm-omni issue 7960, thinker
        ("qwen3-next-80b-a3b", 4, "decode", 68.8e-3, 0.3),  # vLLM issue 27222, 73.7 less 4.9 ms for 1,024 sequences
        ("deepseek-v3", 8, "prefill", 82.6e-3, 0.15),  # one new token, SGLang pull request 12160
    ],
)
def test_published_steps_that_wait_for_their_host(
    model: str, tp: int, phase: str, step_s: float, within: float
) -> None:
    d = Deployment(tp=tp, framework="vLLM 0.16", weight_dtype="fp8" if tp == 8 else "bf16", activation_dtype="bf16")
    issued = step(load_model(model), H200, d, Shape(phase, 4.0, 4.0, 1.0, 1024.0)).issued
    assert STEP_S + issued * OPERATOR_S == pytest.approx(step_s, rel=within)


def test_prompts_wait_for_a_host_with_enough_cores_too() -> None:
    """SGLang issues operators of prompts one by one; vLLM those of steps beyond its captured sizes."""
    sglang, vllm, other = (engine(name, H200.chip) for name in ("SGLang 0.5.6", "vLLM 0.16", "TensorRT-LLM 0.17"))
    tokens = np.array([256.0, 4096.0])
    np.testing.assert_allclose(usual_issue_s(sglang, 400.0, 500.0, tokens), 500 * OPERATOR_S)
    np.testing.assert_allclose(usual_issue_s(vllm, 400.0, 500.0, tokens), [400 * vllm.launch_s, 500 * OPERATOR_S])
    assert usual_issue_s(other, 400.0, 500.0, tokens) == 400 * other.launch_s
    model = load_model("qwen3-30b-a3b")
    short = step(model, H200, replace(VLLM, framework="SGLang 0.5.6"), Shape("prefill", 1.0, 1.0, 64.0, 64.0))
    assert float(np.ravel(short.time_s)[0]) == pytest.approx(short.issued * OPERATOR_S + sglang.step_gap_s)


def test_decode_beyond_the_largest_graph_waits_for_python() -> None:
    """vLLM captures up to 512 tokens: Qwen3-Next at tp 4 takes 48.8 ms with 1,024 sequences in a graph and 73.7 without
    (vLLM issue 27222); drafts count."""
    model, drafts = load_model("qwen3-next-80b-a3b"), replace(VLLM, tp=4, mtp_tokens=1, mtp_acceptance=0.5)
    few, many, drafted = (
        step(model, H200, d, Shape("decode", n, n, 1.0 * d.new_tokens, 512.0))
        for d, n in ((replace(VLLM, tp=4), 512.0), (replace(VLLM, tp=4), 520.0), (drafts, 260.0))
    )
    assert float(np.ravel(few.waited_s)[0]) == 0.0
    for one in (many, drafted):
        assert float(np.ravel(one.device_s + one.waited_s)[0]) >= one.issued * OPERATOR_S
    about, d = engine(VLLM.framework, H200.chip), replace(VLLM, tp=4)
    found = curves(model, H200, (d, d), (64.0, 64.0, 256.0, 192.0), about, 1024.0)
    assert found.captured == 512
    assert float(found.decode_host(512.0)) == 0.0
    assert float(found.decode_host(513.0)) == pytest.approx(few.issued * OPERATOR_S + about.step_gap_s)
    assert float(found.prompt_host(513.0)) == float(found.decode_host(513.0)) > float(found.prompt_host(512.0))


def test_a_deployment_slows_down_with_too_few_cores_only() -> None:
    def served(cores: float) -> tuple[float, float]:
        d = replace(VLLM, host_cores=cores)
        found = curves(QWEN, H200, (d, d), (1024.0, 1024.0, 128.0, 64.0), engine(d.framework, H200.chip), 16.0)
        got = serve(found, Load("loop", 1024.0, 1024.0, 128.0, concurrency=8.0, requests=80.0), 1.0)
        return got.requests_per_s, got.ttft_s

    usual, found = served(0.0), [served(c) for c in (0.5, 1.0, 2.0, 4.0, 8.0, 10.0)]
    assert all(a[0] <= b[0] and a[1] >= b[1] for a, b in itertools.pairwise(found))
    assert found[-1] == usual
    assert found[1][0] < 0.6 * usual[0]


def test_compiled_engines_need_less_of_the_host() -> None:
    placed = place(VLLM)
    python, compiled = (shortage(engine(name, H200.chip), H200, 1.0, placed) for name in ("vLLM 0.16", "TRT-LLM 0.17"))
    assert compiled.operator_s < python.operator_s / 10.0
    assert compiled.step_s < python.step_s


def test_what_cannot_be_is_refused() -> None:
    for cores in (-1.0, 5000.0, float("nan")):
        with pytest.raises(InputError, match="host_cores"):
            predict(case("decode", cores))
    apart = Deployment(tp=1, dp=4, ep=4, dp_attention=True, afd=(1, 1), afd_unit=4, host_cores=2.0)
    with pytest.raises(InputError, match="host_cores"):
        predict(InferenceCase(QWEN, H200, apart, "decode", 2.0, 0, 1024))


def test_a_prediction_says_what_it_waits_for() -> None:
    found = predict(case("prefill", 1.0))
    assert found.breakdown[0].part == "host"
    assert found.layout["host_cores"] == "1"
    assert any("10 busy processes" in w for w in found.warnings)
    assert {"host per operator outside a graph", "two threads of a core over one"} <= {row[0] for row in found.sources}
    assert not any("processes" in w for w in predict(case("prefill", 10.0)).warnings)


def test_what_enough_cores_would_buy_is_among_the_changes() -> None:
    found = {gain.change.name: gain for gain in what_if(case("prefill", 1.0))}["a core for every process of the host"]
    assert found.step_time_s == pytest.approx(predict(case("prefill", 0.0)).step_time_s)
    assert not any("process of the host" in gain.change.name for gain in what_if(case("prefill", 0.0)))


def test_a_table_takes_parts_of_a_core() -> None:
    columns = {"tp": 8, "framework": "vLLM 0.16", "batch": 2.0, "input_len": 512, "host_cores": [0.5, 1.0, 0.0]}
    found = sweep(QWEN, H200, "prefill", columns)["step_time_s"]
    for i, cores in enumerate((0.5, 1.0, 0.0)):
        assert found[i] == pytest.approx(predict(case("prefill", cores)).step_time_s)


def test_rows_read_the_cores_that_a_job_asked_for() -> None:
    slurm = "SemiAnalysisAI/InferenceX experimental/token_position_decode_slo (843c6254)"
    assert options({"source": slurm, "model": "minimax-m2.5"}).host_cores == 1.0
    assert options({"source": slurm, "model": "glm-5"}).host_cores == 0.0
    assert options({"source": "vLLM blog", "model": "minimax-m2.5"}).host_cores == 0.0


def test_cached_prefixes_cut_prompts_with_recurrent_layers_in_two() -> None:
    vllm, sglang = engine("vLLM 0.16", H200.chip), engine("SGLang 0.5.6", H200.chip)
    assert least_parts(vllm, HYBRID, True) == 2
    assert least_parts(vllm, HYBRID, False) == least_parts(vllm, QWEN, True) == least_parts(sglang, HYBRID, True) == 1


def test_steps_that_carry_prompts() -> None:
    """Eight prompts that would fill 1.5 steps: a first one and two full ones where they come together, eight where
    they come alone."""
    own, full = np.array(8.0), np.array(1.5)
    assert [float(Arrivals(how).steps(own, full)) for how in ("queued", "together", "alone")] == [1.0, 3.0, 8.0]
    assert [float(Arrivals(how, 2).steps(own, full)) for how in ("queued", "together", "alone")] == [2.0, 4.0, 16.0]
    assert float(Arrivals("together").steps(np.array(1.0), full)) == 1.0
