"""Illegal jobs are refused with the arithmetic and the choices that would be legal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.core.errors import InputError, UnknownName
from supertwin.machine.systems import load_system
from supertwin.model.load import load_model
from supertwin.training import Layout, TrainingCase, check


def job(**changes: object) -> TrainingCase:
    case = TrainingCase(
        model=load_model("llama3.1-70b"),
        system=load_system("dgx-h100:32"),
        layout=Layout(tp=8, pp=2, dp=2),
        micro_batch=1,
        global_batch=16,
        seq_len=4096,
    )
    return replace(case, **changes)  # type: ignore[arg-type]


def test_a_legal_job_passes() -> None:
    check(job())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layout": Layout(tp=8, dp=2)}, ("tp(8)", "dp(2)", "= 16 != 32 devices", "dp = 4 would fit")),
        ({"model": load_model("qwen2-7b")}, ("tp(8) does not divide the 28 heads", "legal tp: 1, 2, 4, 7")),
        ({"layout": Layout(tp=8, pp=2, dp=2, ep=2)}, ("ep(2)", "has none", "legal ep: 1")),
        ({"layout": Layout(tp=8, pp=2, dp=2, etp=2)}, ("etp(2)", "has none", "legal etp: 1")),
        ({"schedule": "dualpipe", "layout": Layout(dp=32), "global_batch": 32}, ("needs a pipeline",)),
        ({"global_batch": 15}, ("global_batch(15)", "micro_batch(1) * dp(2) = 2", "14 or 16 would fit")),
        ({"layout": Layout(tp=4, dp=8, vpp=2)}, ("vpp(2)", "pp is 1")),
        ({"layout": Layout(pp=32, vpp=4)}, ("128 stages for 80 layers",)),
        ({"micro_batch": 0}, ("micro-batch = 0",)),
        ({"recompute": "partial"}, ("recompute_layers > 0",)),
        ({"sharding": "hsdp", "hsdp_shard_size": 3}, ("hsdp_shard_size(3)", "legal: 1, 2")),
        ({"schedule": "zb-v", "layout": Layout(tp=8, dp=4)}, ("zb-v needs a pipeline",)),
        ({"schedule": "dualpipe", "layout": Layout(tp=8, pp=2, dp=2, vpp=2)}, ("vpp(2) must be 1",)),
    ],
)
def test_messages_show_arithmetic_and_choices(changes: dict[str, object], words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as raised:
        check(job(**changes))
    text = str(raised.value)
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    "changes",
    [{"schedule": "1f1bb"}, {"sharding": "zero9"}, {"recompute": "all"}, {"task": "rlx"}, {"precision": "fp9"}],
)
def test_unknown_words_name_the_nearest(changes: dict[str, object]) -> None:
    with pytest.raises(UnknownName):
        check(job(**changes))


def test_experts_must_divide() -> None:
    model = load_model("mixtral-8x7b")
    case = replace(job(), model=model, layout=Layout(tp=2, dp=16, ep=16))
    with pytest.raises(InputError, match=r"ep\(16\) does not divide the 8 experts"):
        check(case)


def test_dualpipe_needs_an_even_number_of_stages() -> None:
    system = load_system("dgx-h100:24")
    with pytest.raises(InputError, match=r"pp\(3\) must be even"):
        check(job(system=system, schedule="dualpipe", layout=Layout(tp=8, pp=3)))


def test_the_busiest_rank_has_no_more_than_all_tokens() -> None:
    case = job(model=load_model("mixtral-8x7b"), layout=Layout(dp=32, ep=8), global_batch=32)
    check(replace(case, skew=8.0))
    with pytest.raises(InputError, match="at most 8 times the mean"):
        check(replace(case, skew=8.5))


def test_uneven_stages_are_legal() -> None:
    check(replace(job(), layout=Layout(tp=1, pp=32), global_batch=32))
