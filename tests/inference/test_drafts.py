"""Drafts: acceptance of chains and trees, who drafts and what it costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.cli.inference_options import given_drafts
from supertwin.core.errors import InputError
from supertwin.core.prediction import Prediction
from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.inference.acceptance import expected_accepted, guesses, tree_nodes, tree_values
from supertwin.inference.drafts import draft_weights_bytes
from supertwin.inference.plan import plan_of
from supertwin.inference.predict import shape_of
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.workload.operators import Attention, Gemm

LEVELS = st.lists(st.floats(0.05, 0.95), min_size=1, max_size=6)


@given(LEVELS)
def test_a_chain_yields_the_sum_of_the_products(acceptance: list[float]) -> None:
    assert expected_accepted(acceptance) == pytest.approx(sum(np.cumprod(acceptance)))


@given(st.floats(0.05, 0.95), st.integers(1, 8))
def test_equal_chances_are_a_geometric_series(chance: float, drafts: int) -> None:
    """1 + p + p^2 + ... = (1 - p^(m + 1)) / (1 - p), Leviathan et al., arXiv 2211.17192, equation 1."""
    assert 1.0 + expected_accepted([chance] * drafts) == pytest.approx((1 - chance ** (drafts + 1)) / (1 - chance))


def test_guesses_follow_the_first_head_of_medusa() -> None:
    """arXiv 2401.10774: 60 % of the first guesses are right, 80 % of the first five."""
    assert guesses(0.6, 5)[0] == pytest.approx(0.6)
    assert sum(guesses(0.6, 5)) == pytest.approx(0.8, abs=0.002)


def drawn(acceptance: list[float], topk: int, verified: int, runs: int) -> float:
    """Accepted drafts when every step draws which guess of each level is the right one and walks the verified tree."""
    rng = np.random.default_rng(3)
    nodes: dict[tuple[int, ...], float] = {}
    level: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
    for chance in acceptance:
        p = guesses(chance, topk)
        below = sorted((((*path, r), v * p[r]) for path, v in level for r in range(topk)), key=lambda x: -x[1])
        nodes.update(below)
        level = below[:topk]
    kept = set(sorted(nodes, key=lambda path: -nodes[path])[: verified - 1])
    total = 0
    chances = [[*guesses(a, topk), 1.0 - sum(guesses(a, topk))] for a in acceptance]
    for _ in range(runs):
        path: tuple[int, ...] = ()
        for p in chances:
            path = (*path, int(rng.choice(topk + 1, p=p)))
            if path not in kept:
                break
            total += 1
    return total / runs


@pytest.mark.parametrize(("topk", "verified"), [(2, 6), (4, 16), (4, 8), (8, 32)])
def test_a_tree_accepts_what_a_simulation_of_it_does(topk: int, verified: int) -> None:
    acceptance = [0.7, 0.6, 0.65, 0.5]
    assert expected_accepted(acceptance, topk, verified) == pytest.approx(
        drawn(acceptance, topk, verified, 20_000), rel=0.02
    )


@settings(max_examples=40)
@given(LEVELS, st.integers(2, 6))
def test_a_tree_is_never_worse_than_its_chain_and_grows_with_what_is_verified(
    acceptance: list[float], topk: int
) -> None:
    most = 1 + tree_nodes(len(acceptance), topk)
    assert len(tree_values(acceptance, topk)) == most - 1
    found = [expected_accepted(acceptance, topk, v) for v in range(2, most + 1)]
    assert found == sorted(found)
    assert found[-1] >= expected_accepted(acceptance) - 1e-9
    assert found[-1] <= len(acceptance)


@pytest.mark.parametrize(
    ("settings_", "measured"),
    [
        ((4, 4, 16), 9.86 / 3.32),
        ((2, 4, 16), 8.86 / 3.74),
        ((8, 4, 16), 12.20 / 4.00),
        ((4, 8, 16), 10.14 / 3.36),
        ((4, 4, 32), 10.67 / 3.38),
        ((4, 4, 8), 9.78 / 3.59),
    ],
)
def test_trees_of_one_head_against_its_chain(settings_: tuple[int, int, int], measured: float) -> None:
    """GPUStack performance lab, Qwen3-8B on H100, one EAGLE-3 head under SGLang: tokens per step = median time between
    chunks over median TPOT. Its chain of two drafts (7.62 / 4.10 and 8.78 / 4.37 ms by medians and means) means 0.6."""
    chain = (7.62 / 4.10 + 8.78 / 4.37) / 2 - 1.0
    chance = (np.sqrt(1.0 + 4.0 * chain) - 1.0) / 2.0
    levels, topk, verified = settings_
    assert 1.0 + expected_accepted([chance] * levels, topk, verified) == pytest.approx(measured, rel=0.1)


LLAMA = Deployment(tp=4, mtp_tokens=3, mtp_acceptance=0.5)


def one(deployment: Deployment, model: str = "llama-3.1-70b", batch: float = 4.0) -> InferenceCase:
    return InferenceCase(load_model(model), load_system("dgx-h100:4"), deployment, "decode", batch, kv_len=2048)


def priced(**fields: object) -> Prediction:
    return predict(one(replace(LLAMA, **fields)))  # type: ignore[arg-type]


def test_drafts_out_of_the_text_cost_only_their_check() -> None:
    found = priced(draft="ngram")
    assert not any(p.part.startswith("mtp") for p in found.breakdown)
    assert found.memory.parameters_bytes == priced(mtp_tokens=0).memory.parameters_bytes
    assert priced(mtp_tokens=0).step_time_s < found.step_time_s < priced(draft="eagle3").step_time_s
    assert priced(draft="suffix").step_time_s == found.step_time_s


def test_a_draft_model_reads_its_weights_once_per_draft() -> None:
    """Llama 8B in BF16 over tp 4: 16.1 GB / 4 of memory, and three passes over them at 3.35 TB/s at least."""
    small = load_model("llama-3.1-8b")
    plain, drafting = priced(draft="ngram"), priced(draft="llama-3.1-8b")
    held = drafting.memory.parameters_bytes - plain.memory.parameters_bytes
    assert (
        held == pytest.approx(16.06e9 / 4, rel=0.001) == draft_weights_bytes(load_model("llama-3.1-70b"), small.name, 4)
    )
    assert drafting.step_time_s - plain.step_time_s > 3 * (held - 2 * small.vocab * small.hidden / 4) / 3.35e12
    cache = drafting.memory.kv_cache_bytes - plain.memory.kv_cache_bytes
    assert cache == pytest.approx(4 * 4 * 2048 * 32 * 2 * 2 * 128 * 2)  # 16 sequences, 32 layers, 2 heads of tp 4


def test_an_eagle3_head_has_its_published_size() -> None:
    """Qwen3-8B (configs of SpecForge, qwen3-8b-eagle3): fc 3 x 4096 to 4096, one layer with queries, keys and values
    of 2 x 4096, MLP 12,288, head of 32,000 words; embedding shared with the target."""
    expected = 3 * 4096**2 + 2 * 4096 * (32 + 16) * 128 + 4096**2 + 3 * 4096 * 12288 + 32000 * 4096
    assert draft_weights_bytes(load_model("qwen3-8b"), "eagle3", 1) == pytest.approx(2 * expected, rel=1e-3)


@pytest.mark.parametrize("model", ["deepseek-r1", "qwen3-235b-a22b", "gpt-oss-120b"])
def test_an_eagle3_head_beside_experts_is_dense(model: str) -> None:
    case = one(Deployment(tp=4, weight_dtype="int4", mtp_tokens=2, draft="eagle3"), model)
    plan = plan_of(case.model, case.system.chip, case.deployment, shape_of(case))
    parts = {o.part for block in plan.blocks for o in block.operators}
    assert "mtp/mlp/up" in parts
    assert not any(part.startswith("mtp/moe") for part in parts)


def test_a_tree_checks_its_nodes_and_drafts_by_level() -> None:
    case = one(replace(LLAMA, draft="eagle3", draft_topk=4, verify_tokens=16))
    plan = plan_of(case.model, case.system.chip, case.deployment, shape_of(case))
    layers = next(b for b in plan.blocks if b.layer)
    core = next(o for o in layers.operators if isinstance(o, Attention))
    assert core.q_len == 16.0
    heads = [
        (float(o.m), block.count)
        for block in plan.blocks
        for o in block.operators
        if isinstance(o, Gemm) and o.part == "mtp/head/logits"
    ]
    assert heads == [(16.0 * 16, 1.0), (4.0 * 16, 2.0)]  # 16 sequences: all nodes first, then four per level
    assert predict(case).figures["tokens_per_step"] == pytest.approx(1.0 + 3 * 0.5)


def test_a_step_repeated_is_the_same() -> None:
    for fields in ({"draft": "eagle3"}, {"draft": "eagle3", "draft_topk": 2, "verify_tokens": 6}, {"draft": "ngram"}):
        assert len({priced(**fields).step_time_s for _ in range(4)}) == 1
    assert priced(draft="eagle3").step_time_s != priced(draft="ngram").step_time_s


def test_command_line_lists_become_accepted_over_drafts() -> None:
    assert given_drafts({"mtp_acceptance": "0.8,0.5"}, 3)["mtp_acceptance"] == pytest.approx((0.8 + 0.4 + 0.2) / 3)
    assert given_drafts({"mtp_acceptance": "0.8"}, 3)["mtp_acceptance"] == 0.8
    tree = given_drafts({"mtp_acceptance": "0.8", "draft_topk": "2"}, 3)
    assert tree["verify_tokens"] == 8
    assert tree["mtp_acceptance"] == pytest.approx(expected_accepted([0.8] * 3, 2, 8) / 3)
    assert given_drafts({}, 0)["mtp_acceptance"] == 0.0
    for wrong in ("0.8,,", "1.2", "0.5,0.5,0.5", "x"):
        with pytest.raises(InputError, match="--mtp-acceptance"):
            given_drafts({"mtp_acceptance": wrong}, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"draft": "gpt-9"}, "mtp, eagle, eagle3, ngram, suffix, or the name"),
        ({"draft": "ngram", "draft_topk": 2}, "legal: 1"),
        ({"verify_tokens": 9}, "a chain of 3 drafts; expected 4"),
        ({"draft_topk": 2, "verify_tokens": 12}, "3 levels of 2; expected 2 to 11"),
        ({"draft_topk": 0}, "1 .a chain. to 64"),
    ],
)
def test_drafts_that_cannot_be_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        priced(**fields)
