"""Options of `train` and `infer` that change nothing say so; formats that the chip lacks; what the headline counts."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tests.cli.run import assert_refused, supertwin

DATA = Path(str(resources.files("supertwin"))) / "data" / "models"
TRAIN = ("train", "llama3.1-8b", "--on", "dgx-h100:8")
INFER = ("infer", "llama-3.1-8b", "--on", "dgx-h100:8")


def fields(*arguments: str) -> dict[str, Any]:
    result = supertwin(*arguments, "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((*INFER, "--phase", "prefill", "--kv-len", "100"), "--kv-len has no effect"),
        ((*INFER, "--input-len", "100"), "--input-len has no effect"),
        ((*INFER, "--mtp-acceptance", "0.5"), "--mtp-acceptance has no effect"),
        ((*INFER, "--redundant-experts", "4"), "no routed experts"),
        ((*INFER, "--expert-balance", "perfect"), "--expert-balance has no effect with a model without routed experts"),
        ((*INFER, "--exchange", "separate"), "--exchange has no effect"),
        (("infer", "deepseek-r1", "--on", "cm384:320"), "natural routing gives the busiest of 320 ranks"),
        ((*TRAIN, "--recompute", "full", "--recompute-layers", "4"), "recompute_layers has no effect"),
        ((*TRAIN, "--schedule", "interleaved", "--tp", "4", "--pp", "2"), "interleaved with vpp 1 is 1f1b"),
        ((*TRAIN, "--tp", "1", "--pp", "8", "--vpp", "3"), "32 layers over pp(8) * vpp(3) = 24 stages"),
        (
            (*TRAIN, "--seq-len", "262144", "--cp", "8", "--global-batch", "8", "--recompute", "full"),
            "131072 positions",
        ),
        ((*INFER, "--weight-dtype", "nvfp4", "--activation-dtype", "nvfp4"), "does not multiply nvfp4"),
        (
            ("infer", "llama-3.1-8b", "--on", "cm384:8", "--weight-dtype", "fp8"),
            "does not multiply fp8: weights stay fp8",
        ),
    ],
)
def test_what_changes_nothing_is_noted(arguments: tuple[str, ...], sentence: str) -> None:
    result = supertwin(*arguments, "--json")
    assert result.code in (0, 3), result.err
    assert any(sentence in text for text in json.loads(result.out)["warnings"])


def test_chunks_make_the_schedule_interleaved() -> None:
    got = fields(*TRAIN, "--tp", "2", "--pp", "4", "--vpp", "2")
    assert got["layout"]["schedule"] == "interleaved"
    assert got["defaults"]["schedule"] == "interleaved"


@pytest.mark.parametrize(
    ("system", "precision"),
    [
        ("dgx-h100:8", "int4"),
        ("dgx-h100:8", "nvfp4"),
        ("dgx-a100:8", "fp8"),
        ("atlas-a2:8", "fp8"),
        ("tpu-v5p", "mxfp4"),
    ],
)
def test_training_refuses_a_format_that_the_chip_does_not_multiply(system: str, precision: str) -> None:
    result = supertwin("train", "llama3.1-8b", "--on", system, "--precision", precision)
    assert_refused(result)
    assert f"does not multiply {precision}; legal precision: " in result.err
    assert "bf16" in result.err


def test_the_checkpoints_format_is_the_default(tmp_path: Path) -> None:
    config = json.loads((DATA / "llama3.1-8b.json").read_text(encoding="utf-8"))
    path = tmp_path / "config.json"
    for stated, expected in (({"quant_method": "fp8"}, "fp8"), (None, "bf16")):
        path.write_text("\ufeff" + json.dumps(config | {"quantization_config": stated}), encoding="utf-8")
        got = fields("infer", str(path), "--on", "dgx-h100:8")
        assert got["layout"]["weight_dtype"] == got["defaults"]["weight_dtype"] == expected


def test_a_multimodal_model_is_priced_without_its_vision_part(tmp_path: Path) -> None:
    config = json.loads((DATA / "llama3.1-8b.json").read_text(encoding="utf-8"))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config | {"vision_config": {"hidden_size": 1024}}), encoding="utf-8")
    for command in (("infer", str(path)), ("train", str(path), "--on", "dgx-h100:8")):
        assert any("is multimodal" in text for text in fields(*command)["warnings"])


def test_replicas_are_counted_and_the_bill_says_for_what() -> None:
    text = supertwin(*INFER, "--tp", "2").out
    assert "2 of 8, 4 replicas" in text
    assert "for one replica of 2 devices" in text
    got = fields(*INFER, "--tp", "2", "--batch", "3")
    assert (got["layout"]["replicas"], got["requests_in_flight"]) == (4, 6)


def test_a_batch_below_one_request_is_refused() -> None:
    result = supertwin(*INFER, "--batch", "1e-9")
    assert_refused(result)
    assert "expected at least 1" in result.err


def test_prefill_has_the_fields_of_output_as_null() -> None:
    got = fields(*INFER, "--phase", "prefill")
    assert got["output_tokens_per_s_per_device"] is None
    assert got["output_tokens_per_s_per_user"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("infer", "deepseek-r1", "--on", "cm384:7"),
        ("infer", "deepseek-r1", "--on", "cm384:320", "--batch", "1e9"),
        ("infer", "deepseek-v3.2", "--on", "cm384:64", "--kv-len", "65536", "--batch", "1000"),
        ("infer", "deepseek-r1", "--on", "cm384:320", "--redundant-experts", "100000"),
        ("train", "llama3.1-405b", "--on", "dgx-h100:8"),
    ],
)
def test_what_does_not_fit_gives_reasons_in_one_unit(arguments: tuple[str, ...]) -> None:
    result = supertwin(*arguments, "--json")
    assert result.code == 3, result.err
    got = json.loads(result.out)
    assert got["feasible"] is False
    assert got["reasons"]
    assert result.err == f"supertwin: {'; '.join(got['reasons'])}\n"
    assert "does not divide" not in result.err
    for text in (*got["reasons"], *got["warnings"]):
        assert " GB" not in text
        assert "bytes needed" not in text


def test_a_case_that_runs_has_no_reasons() -> None:
    assert fields(*INFER)["reasons"] == []


@pytest.mark.parametrize("sizes", [("--tp", "3"), ("--tp", "16")])
def test_a_size_that_does_not_divide_shows_what_would(sizes: tuple[str, str]) -> None:
    result = supertwin(*TRAIN, *sizes)
    assert_refused(result)
    assert f"tp({sizes[1]}) does not divide the 8 devices of dgx-h100; legal tp: 1, 2, 4, 8" in result.err
