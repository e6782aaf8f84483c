"""The format in which a checkpoint stores its weights, from the quantization_config of its config.json.

Vocabulary of the Hugging Face loaders: quant_method fp8 (block-wise where weight_block_size is given), mxfp4, awq and
gptq (bits), compressed-tensors (config_groups of weights with num_bits and type), modelopt (quant_algo), bitsandbytes.
"""

from __future__ import annotations

from collections.abc import Mapping

from supertwin.model.config import Config

_ALGORITHMS = {"nvfp4": "nvfp4", "fp8": "fp8", "w4a16": "int4", "int4": "int4", "w8a8": "int8", "mxfp4": "mxfp4"}


def weight_format(config: Config) -> str:
    """Name of the number format, "" where the checkpoint is not quantised or its method is not known.

    Raises ModelError when quantization_config is not an object.
    """
    stated = config.section("quantization_config").values
    method = str(stated.get("quant_method") or "").lower()
    if method in ("fp8", "fbgemm_fp8"):
        return "fp8-blockwise" if stated.get("weight_block_size") else "fp8"
    if method == "mxfp4":
        return "mxfp4"
    if method in ("awq", "gptq", "auto-round"):
        return _whole(stated.get("bits"), 4)
    if method == "bitsandbytes":
        return "int4" if stated.get("load_in_4bit") else "int8" if stated.get("load_in_8bit") else ""
    if method == "modelopt":
        return _ALGORITHMS.get(str(stated.get("quant_algo") or "").lower(), "")
    return _grouped(stated) if method == "compressed-tensors" else ""


def _grouped(stated: Mapping[str, object]) -> str:
    """The weights of the first group of a compressed-tensors checkpoint."""
    groups = stated.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
    weights = first.get("weights") if isinstance(first, Mapping) else None
    if not isinstance(weights, Mapping):
        return ""
    if weights.get("type") == "float":
        wide = weights.get("num_bits") == 8
        blocks = str(weights.get("strategy") or "") == "block"
        return ("fp8-blockwise" if blocks else "fp8") if wide else "nvfp4" if weights.get("num_bits") == 4 else ""
    return _whole(weights.get("num_bits"), 0)


def _whole(bits: object, default: int) -> str:
    number = bits if isinstance(bits, int) else default
    return {4: "int4", 8: "int8"}.get(number, "")
