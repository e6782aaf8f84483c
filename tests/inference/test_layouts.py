"""Deployments chosen for open sizes: legal ones only, with room, and the true reason where there is none."""

from __future__ import annotations

import pytest

from supertwin.core.errors import InputError
from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.inference.layouts import FULLEST, Choice, choose, usual_activation, usual_weight
from supertwin.inference.predict import memory
from supertwin.machine import load_chip, load_system
from supertwin.model import load_model
from supertwin.model.load import spec_from_config

BF16 = Deployment()


def draft(model: str, system: str, kv_len: int = 4096, deployment: Deployment = BF16) -> InferenceCase:
    return InferenceCase(load_model(model), load_system(system), deployment, "decode", 1.0, kv_len=kv_len)


@pytest.mark.parametrize(
    ("model", "system"),
    [
        ("llama-33b", "dgx-h200:8"),  # 52 heads: tp 8 is not legal
        ("deepseek-r1", "cm384:320"),
        ("llama-3.1-70b", "dgx-h100:6"),
        ("qwen3-235b-a22b", "gb200-nvl72:72"),
    ],
)
def test_what_is_chosen_is_legal_and_fits_with_room(model: str, system: str) -> None:
    case = choose(draft(model, system), Choice({}))
    used = predict(case).memory
    assert used.peak_bytes <= FULLEST * used.capacity_bytes
    heads = max(a.heads for layer in case.model.layers if (a := layer.attention) is not None)
    assert heads % case.deployment.tp == 0
    assert case.system.devices % case.deployment.devices == 0


def test_the_smallest_need_is_reported_when_nothing_fits() -> None:
    """deepseek-r1 in BF16 is 1.3 TB: 7 dies of 64 GB cannot hold it, and 7 cuts no head."""
    case = choose(draft("deepseek-r1", "cm384:7"), Choice({}))
    assert case.deployment.tp == 1
    assert not memory(case).fits
    for tp in (1, 4, 16, 64):
        one = choose(draft("deepseek-v3.2", "cm384:64", 65536), Choice({"tp": tp}, 512.0))
        free = choose(draft("deepseek-v3.2", "cm384:64", 65536), Choice({}, 512.0))
        assert memory(free).peak_bytes <= memory(one).peak_bytes


def test_an_open_batch_is_what_fits() -> None:
    """Llama 33B caches 1.5 MiB per token (52 heads, no groups): 32 requests of 4K per device need 200 GB."""
    assert choose(draft("llama-33b", "dgx-h200:8"), Choice({})).batch == 16.0
    assert choose(draft("llama-3.1-8b", "dgx-h200:8"), Choice({})).batch == 32.0


def test_no_batch_is_too_large_for_an_answer() -> None:
    assert not memory(choose(draft("deepseek-r1", "cm384:320"), Choice({}, 1e9))).fits


def test_the_first_error_is_the_one_of_what_was_given() -> None:
    with pytest.raises(InputError, match=r"pp\(3\)"):
        choose(draft("llama-3.1-8b", "dgx-h100:8"), Choice({"pp": 3}))
    with pytest.raises(InputError, match=r"tp\(3\)"):
        choose(draft("llama-3.1-8b", "dgx-h100:8"), Choice({"tp": 3}))


def test_a_fraction_of_a_request_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected at least\s+1, a batch of 0.125 or more"):
        choose(draft("llama-3.1-8b", "dgx-h100:8"), Choice({"tp": 8}, 1e-9))


@pytest.mark.parametrize(
    ("chip", "stored", "weight", "activation"),
    [
        ("h100-sxm", "fp8-blockwise", "fp8-blockwise", "fp8-blockwise"),
        ("a100-sxm-80gb", "fp8-blockwise", "bf16", "bf16"),
        ("ascend-910c-die", "fp8", "bf16", "bf16"),
        ("h100-sxm", "mxfp4", "mxfp4", "bf16"),
        ("tpu-v5p", "int4", "int4", "bf16"),
        ("b200-sxm", "nvfp4", "nvfp4", "nvfp4"),
        ("h100-sxm", "nvfp4", "bf16", "bf16"),
        ("h100-sxm", "", "bf16", "bf16"),
    ],
)
def test_formats_follow_the_checkpoint_and_the_chip(chip: str, stored: str, weight: str, activation: str) -> None:
    from dataclasses import replace

    model = replace(load_model("llama-3.1-8b"), weight_format=stored)
    assert usual_weight(model, load_chip(chip)) == weight
    assert usual_activation(weight, load_chip(chip)) == activation


def grouped(**weights: object) -> dict[str, object]:
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights}}}


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-blockwise"),  # DeepSeek-V3
        ({"quant_method": "mxfp4", "modules_to_not_convert": []}, "mxfp4"),  # gpt-oss
        ({"quant_method": "awq", "bits": 4}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4"),
        (grouped(num_bits=8, type="float", strategy="channel"), "fp8"),
        (grouped(num_bits=4, type="int"), "int4"),
        ({"quant_method": "unheard-of"}, ""),
        (None, ""),
    ],
)  # fmt: skip
def test_the_checkpoints_format_is_read_from_its_configuration(stated: dict[str, object] | None, name: str) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
        "quantization_config": stated,
    }  # fmt: skip
    assert spec_from_config(config).weight_format == name


@pytest.mark.parametrize("weight", ["nvfp4", "mxfp4", "int4"])
def test_use_is_over_the_rate_that_is_really_used(weight: str) -> None:
    """No 4-bit products on Hopper: weights are widened, products run in BF16 whatever the activations are called."""
    named, wide = (
        predict(
            InferenceCase(
                load_model("llama-3.1-70b"), load_system("dgx-h100:8"),
                Deployment(tp=8, weight_dtype=weight, activation_dtype=activation), "prefill", 1.0, input_len=4096,
            )
        )
        for activation in (weight, "bf16")
    )  # fmt: skip
    assert named.figures["mfu"] == pytest.approx(wide.figures["mfu"])
    assert any("does not multiply" in text for text in named.warnings)
    assert any("does not multiply" in text for text in wide.warnings) is (weight == "nvfp4")  # others are weight-only


def test_what_a_case_leaves_out_is_said() -> None:
    case = choose(draft("llama-3.1-8b", "dgx-h100:8", 200_000), Choice({"tp": 8}, 1.0))
    assert any("exceed the 131072 positions" in text for text in predict(case).warnings)
    wide = Deployment(dp=256, tp=2, ep=512, dp_attention=True)
    case = InferenceCase(load_model("deepseek-r1"), load_system("cm384:512"), wide, "decode", 4.0, kv_len=4096)
    assert any("256 ranks hold further replicas" in text for text in predict(case).warnings)
    dense = draft("llama-3.1-8b", "dgx-h100:8", deployment=Deployment(redundant_experts=4))
    assert any("no routed experts" in text for text in predict(choose(dense, Choice({}))).warnings)


@pytest.mark.parametrize("devices", [8, 36, 72])
def test_all_ranks_share_the_experts_also_where_they_do_not_divide_them(devices: int) -> None:
    chosen = choose(draft("deepseek-r1", f"gb200-nvl72:{devices}"), Choice({})).deployment
    assert chosen.ep == chosen.tp * chosen.dp == devices
