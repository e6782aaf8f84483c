"""Real configurations in their own field names; names and paths; errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from supertwin.core.errors import ModelError, UnknownName
from supertwin.model import ModelSpec, load_model, parameter_count, spec_from_config
from tests.model.native_configs import NATIVE

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "vocab_size": 32000,
}


@pytest.mark.parametrize(("name", "config", "weights"), NATIVE, ids=[n[0] for n in NATIVE])
def test_native_field_names(name: str, config: dict[str, Any], weights: float) -> None:
    assert parameter_count(spec_from_config(config, name)).total == pytest.approx(weights, rel=0.002)


def test_absent_kv_heads_mean_one_per_head() -> None:
    assert spec_from_config(LLAMA).layers[0].attention.kv_heads == 32  # type: ignore[union-attr]
    assert parameter_count(spec_from_config(LLAMA)).total == pytest.approx(6_738_415_616, rel=1e-4)


def test_nested_text_model() -> None:
    text = {**LLAMA, "model_type": "mistral", "num_key_value_heads": 8}
    text.pop("architectures")
    outer = {"architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "text_config": text}
    assert spec_from_config(outer).layers[0].attention.kv_heads == 8  # type: ignore[union-attr]


def test_gemma3_file_with_class_defaults_left_out() -> None:
    """google/gemma-3-12b-it as published: head_dim and vocab_size are those of the class."""
    text = {
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "model_type": "gemma3_text",
        "num_attention_heads": 16,
        "num_hidden_layers": 48,
        "num_key_value_heads": 8,
        "sliding_window": 1024,
    }
    outer = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": text}
    assert parameter_count(spec_from_config(outer)).total == pytest.approx(11.766e9, rel=0.001)


def test_vision_language_file() -> None:
    text = {**LLAMA, "model_type": "qwen3_vl_text", "num_key_value_heads": 8, "head_dim": 128}
    text.pop("architectures")
    outer = {"architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "text_config": text}
    assert spec_from_config(outer).layers[0].attention.qk_norm  # type: ignore[union-attr]


MOE = {
    **LLAMA,
    "model_type": "mixtral",
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 1024,
}


@pytest.mark.parametrize(
    ("marks", "dense"),
    [
        ({"first_k_dense_replace": 3}, {0, 1, 2}),
        ({"decoder_sparse_step": 2}, set(range(0, 32, 2))),
        ({"mlp_only_layers": [5]}, {5}),
        ({"moe_layer_freq": [0] + [1] * 31}, {0}),
        ({"mlp_layer_types": ["dense"] * 2 + ["sparse"] * 30}, {0, 1}),
    ],
)
def test_which_layers_are_dense(marks: dict[str, object], dense: set[int]) -> None:
    spec = spec_from_config({**MOE, **marks})
    found = {i for i, kind in enumerate(spec.order) if not spec.layers[kind].feed_forward.experts}  # type: ignore[union-attr]
    assert found == dense


def test_gemma_layer_types_win_over_the_pattern() -> None:
    types = ["full_attention" if i in (1, 3) else "sliding_attention" for i in range(32)]
    config = {**LLAMA, "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "sliding_window": 512}
    spec = spec_from_config({**config, "layer_types": types})
    assert [i for i, kind in enumerate(spec.order) if not spec.layers[kind].attention.window] == [1, 3]  # type: ignore[union-attr]


def test_mpt_with_grouped_queries() -> None:
    config = {"architectures": ["MPTForCausalLM"], "d_model": 1024, "n_heads": 16, "n_layers": 2, "vocab_size": 1000}
    attention = {"attn_type": "grouped_query_attention", "kv_n_heads": 4}
    assert spec_from_config({**config, "attn_config": attention}).layers[0].attention.kv_heads == 4  # type: ignore[union-attr]
    with pytest.raises(ModelError, match="attn_type"):
        spec_from_config({**config, "attn_config": {"attn_type": "ring"}})


def same(a: ModelSpec, b: ModelSpec) -> bool:
    return (a.name, a.layers) == (b.name, b.layers)


@pytest.mark.parametrize("given", ["DeepSeek-R1", "deepseek-r1", "deepseek-ai/DeepSeek-R1", "DEEPSEEK-R1"])
def test_names_are_free_in_case(given: str) -> None:
    assert same(load_model(given), load_model("deepseek-r1"))


@pytest.mark.parametrize("given", ["meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b_base", "Llama-3.1-8B-chat-hf"])
def test_names_of_tuned_models_have_the_shapes_of_their_base(given: str) -> None:
    assert load_model(given).layers == load_model("llama-3.1-8b").layers


def test_two_spellings() -> None:
    assert load_model("meta-llama/Llama-3.1-70B").layers == load_model("llama3.1-70b").layers


def test_folder_and_file(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    by_folder, by_file = load_model(folder), load_model(str(folder / "config.json"))
    assert by_folder.name == by_file.name == "my-model"
    assert by_folder.layers == by_file.layers


def test_no_name_is_no_model() -> None:
    with pytest.raises(UnknownName):
        load_model("")


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"deepseek-r1"):
        load_model("deepsek-r1")


def test_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"Qwen4ForCausalLM.*Qwen3ForCausalLM"):
        spec_from_config({**LLAMA, "architectures": ["Qwen4ForCausalLM"], "model_type": "qwen4"})


@pytest.mark.parametrize(
    "field", ["hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size"]
)
def test_a_missing_field_is_named(field: str) -> None:
    config = {k: v for k, v in LLAMA.items() if k != field}
    with pytest.raises(ModelError, match=field):
        spec_from_config(config)


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"num_key_value_heads": 5}, r"32 is not a multiple of 5"),
        ({"num_attention_heads": 33}, r"4096 is not a multiple of 33"),
        ({"hidden_size": -1}, r"hidden_size is -1"),
        ({"hidden_size": 10**12}, r"hidden_size is 1000000000000"),
        ({"hidden_size": float("nan")}, r"hidden_size is nan"),
        ({"hidden_size": "4096"}, r"hidden_size is '4096'"),
        ({"hidden_size": True}, r"hidden_size is True"),
        ({"tie_word_embeddings": "yes"}, r"expected true or false"),
        ({"architectures": "LlamaForCausalLM"}, r"expected a list"),
        ({"architectures": [], "model_type": None}, r"architectures and model_type are missing"),
    ],
)
def test_bad_values(change: dict[str, object], pattern: str) -> None:
    with pytest.raises(ModelError, match=pattern):
        spec_from_config({**LLAMA, **change})


def test_more_experts_per_token_than_experts() -> None:
    config = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 8}
    with pytest.raises(ModelError, match="8 experts per token of only 4"):
        spec_from_config(config)


def test_files_that_are_not_json(tmp_path: Path) -> None:
    for content in (b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000):
        path = tmp_path / "config.json"
        path.write_bytes(content)
        with pytest.raises(ModelError):
            load_model(path)
    with pytest.raises(ModelError):
        load_model(tmp_path / "absent.json")
