"""Vector work of exchanges beside products in the prefill of CloudMatrix-Infer (CM384 paper 4.3.2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.inference import Deployment, InferenceCase
from supertwin.inference.anatomy import Anatomy, Opened, anatomy
from supertwin.machine import load_system
from supertwin.model import load_model

CASE = InferenceCase(
    load_model("deepseek-r1"), load_system("cm384:32"),
    Deployment(
        ep=32, cp=32, cp_adds_devices=True, cp_method="staged", dp_attention=True, weight_dtype="int8",
        activation_dtype="int8", expert_balance="perfect", microbatch_overlap=True, framework="cloudmatrix-infer",
    ),
    "prefill", 64.0, input_len=4096,
)  # fmt: skip


def opened(**changes: object) -> Anatomy:
    return anatomy(replace(CASE, deployment=replace(CASE.deployment, **changes)))  # type: ignore[arg-type]


def permutes(found: Anatomy) -> list[tuple[str, bool]]:
    block: Opened = next(
        x for x in found.blocks if x.block.layer and any(o.part == "moe/permute" for o in x.block.operators)
    )
    return [(piece.stage, piece.outward) for o, piece in block.operators if o.part == "moe/permute"]


def test_sorting_belongs_to_its_exchange() -> None:
    assert permutes(opened()) == [("exchange", True), ("exchange", True), ("exchange", False), ("exchange", False)]


@pytest.mark.parametrize("changes", [{"framework": "cann-recipes"}, {"microbatch_overlap": False}])
def test_sorting_takes_its_turn_elsewhere(changes: dict[str, object]) -> None:
    assert {stage for stage, _ in permutes(opened(**changes))} == {"experts"}


def test_micro_batches_gain_what_the_paper_prints() -> None:
    """+23 to +31 % of throughput, a layer 24 % shorter (4K prompts, 16,384 tokens per package)."""
    with_them, without = opened().total_s, opened(microbatch_overlap=False).total_s
    assert 1.20 < without / with_them < 1.36
