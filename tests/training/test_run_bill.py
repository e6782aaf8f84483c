"""A whole run from its step: arithmetic, ranges, the command's options, and DeepSeek-V3's published card hours."""

from __future__ import annotations

import json

import pytest

from supertwin.cli.sizes import parse_count, parse_devices
from supertwin.core.errors import InputError
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.training import predict
from supertwin.training.case import Layout, TrainingCase
from supertwin.training.run_bill import run_bill
from tests.cli.run import supertwin


def test_a_run_is_steps_after_steps() -> None:
    case = TrainingCase(
        model=load_model("llama3.1-8b"), system=load_system("cm384:64"), layout=Layout(dp=64), micro_batch=1,
        global_batch=512, seq_len=4096,
    )  # fmt: skip
    p = predict(case)
    run = run_bill(p, 1e12, co2_kg_per_kwh=0.5)
    assert run.steps == pytest.approx(1e12 / (512 * 4096))
    assert run.days * 86400 == pytest.approx(run.steps * p.step_time_s)
    assert run.device_hours == pytest.approx(run.days * 24 * 64)
    assert run.card_hours == pytest.approx(run.device_hours / 2)  # two dies to a package
    assert run.card_hours_per_day == pytest.approx(32 * 24)
    assert run.tokens_per_day * run.days == pytest.approx(1e12)
    assert run.energy_mwh == pytest.approx(p.bill.power_w * run.days * 24 / 1e6)
    assert run.usd == pytest.approx(p.bill.usd_per_million_tokens * 1e6)
    assert run.co2_kg == pytest.approx(run.energy_mwh * 1e3 * 0.5)
    assert run.days_range[0] < run.days < run.days_range[1]
    assert run_bill(p, 1e12).co2_kg is None


def test_deepseek_v3_card_hours() -> None:
    """arXiv 2412.19437, section 1: 180 K H800 hours per trillion tokens, 3.7 days on 2,048. Its expert kernels are
    those of the profile (DeepEP)."""
    case = TrainingCase(
        model=load_model("deepseek-v3"), system=load_system("dgx-h800:2048"),
        layout=Layout(pp=16, dp=128, ep=64), micro_batch=1, global_batch=15360, seq_len=4096,
        precision="fp8-blockwise", recompute="selective", schedule="dualpipe", overlap_ep=True, force_balanced=False,
        framework="megatron-core",
    )  # fmt: skip
    run = run_bill(predict(case), 1e12)
    assert run.device_hours == pytest.approx(180e3, rel=0.3)
    assert run.days == pytest.approx(3.7, rel=0.3)


@pytest.mark.parametrize(
    ("text", "count"), [("13.2T", 13.2e12), ("500B", 5e11), ("500 g", 5e11), ("2e12", 2e12), ("1", 1.0), ("7k", 7e3)]
)
def test_counts(text: str, count: float) -> None:
    assert parse_count("--tokens", text) == pytest.approx(count)


@pytest.mark.parametrize("text", ["", "T", "-1T", "0", "1e30", "1 TB", "nan", "1,5T", "9" * 50])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"13\.2T"):
        parse_count("--tokens", text)


@pytest.mark.parametrize("text", ["", "128,", "128;256", "-1", "0", "1.5", "x", ",".join(["8"] * 17), "99999999"])
def test_what_is_no_list_of_devices_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="128,256"):
        parse_devices("--scaling", text)


def test_devices_ascend_once_each() -> None:
    assert parse_devices("--scaling", "256, 128,256") == [128, 256]


def test_the_command_prints_run_and_curves() -> None:
    words = ("train", "llama3.1-8b", "--on", "cm384:64", "--tokens", "15T", "--scaling", "16,32,64")
    fields = json.loads(supertwin(*words, "--json").out)
    assert fields["run"]["tokens"] == 15e12
    assert fields["run"]["days_range"]["low"] < fields["run"]["days"]
    assert {(row["fabric"], row["kind"]) for row in fields["scaling"]} == {
        (fabric, kind) for fabric in ("fabric", "ideal", "nodes") for kind in ("strong", "weak")
    }
    text = supertwin(*words, "--co2-per-kwh", "0.4").out
    assert "A run of 15 T tokens" in text
    assert "Weak scaling" in text
    assert "CO2" in text
    assert supertwin("train", "llama3.1-8b", "--on", "cm384:64", "--tokens", "many").code == 2
