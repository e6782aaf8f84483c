"""Which builder reads which architecture. A model type names the family; an architecture name stands for its type."""

from __future__ import annotations

from collections.abc import Callable

from supertwin.model.config import Config
from supertwin.model.families import deepseek, gemma, gpt, hybrid, llama, moe
from supertwin.model.spec import ModelSpec

Builder = Callable[[Config, str], ModelSpec]

_LLAMA = "llama mistral qwen2 qwen3 yi baichuan internlm internlm2 internlm3 aquila glm glm4 seed_oss olmo2 minicpm"
_VISION_LANGUAGE = "qwen2_vl_text qwen2_5_vl_text qwen3_vl_text"
_MOE = "mixtral grok-1 phimoe qwen2_moe qwen3_moe glm4_moe hy_v3 pangu_pro_moe qwen3_vl_moe_text"
_MLA = "deepseek_v2 deepseek_v3 deepseek_v32 kimi_k2 kimi_k25 glm_moe_dsa pangu_ultra_moe"
_QWEN_HYBRID = "qwen3_next qwen3_5 qwen3_5_text qwen3_5_moe qwen3_5_moe_text"
_GEMMA = "gemma gemma2 gemma3 gemma3_text gemma4 gemma4_text"
_GPT = "gpt gpt2 opt gpt_bigcode"

BUILDERS: dict[str, Builder] = {
    **dict.fromkeys(_LLAMA.split(), llama.build_llama),
    **dict.fromkeys(_VISION_LANGUAGE.split(), llama.build_llama),
    **dict.fromkeys(_MOE.split(), moe.build_moe),
    **dict.fromkeys(_MLA.split(), deepseek.build_deepseek),
    **dict.fromkeys(_QWEN_HYBRID.split(), hybrid.build_qwen_hybrid),
    **dict.fromkeys(_GEMMA.split(), gemma.build_gemma),
    **dict.fromkeys(_GPT.split(), gpt.build_gpt),
    "chatglm": llama.build_chatglm,
    "qwen": llama.build_qwen1,
    "phi3": llama.build_phi3,
    "palm": llama.build_palm,
    "pangu_ultra": llama.build_pangu_ultra,
    "bloom": gpt.build_bloom,
    "mpt": gpt.build_mpt,
    "gpt_neox": gpt.build_neox,
    "gptj": gpt.build_gptj,
    "phi": gpt.build_gptj,
    "falcon": gpt.build_falcon,
    "nemotron": gpt.build_nemotron,
    "starcoder2": gpt.build_starcoder2,
    "moe": moe.build_generic_moe,
    "minimax_m2": moe.build_minimax,
    "minimax_m3": moe.build_minimax,
    "gpt_oss": moe.build_gpt_oss,
    "llama4": moe.build_llama4,
    "llama4_text": moe.build_llama4,
    "deepseek_v4": deepseek.build_deepseek_v4,
    "longcat_flash": deepseek.build_longcat,
    "kimi_linear": hybrid.build_kimi_linear,
    "nemotron_h": hybrid.build_nemotron_h,
}

ARCHITECTURES: dict[str, str] = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "QWenLMHeadModel": "qwen",
    "Qwen2_5_VLForConditionalGeneration": "qwen2",
    "YiForCausalLM": "yi",
    "BaichuanForCausalLM": "baichuan",
    "BaiChuanForCausalLM": "baichuan",
    "InternLMForCausalLM": "internlm",
    "InternLM2ForCausalLM": "internlm2",
    "InternLM3ForCausalLM": "internlm3",
    "AquilaForCausalLM": "aquila",
    "GlmForCausalLM": "glm",
    "Glm4ForCausalLM": "glm4",
    "ChatGLMModel": "chatglm",
    "ChatGLMForConditionalGeneration": "chatglm",
    "SeedOssForCausalLM": "seed_oss",
    "Olmo2ForCausalLM": "olmo2",
    "MiniCPMForCausalLM": "minicpm",
    "Phi3ForCausalLM": "phi3",
    "PhiForCausalLM": "phi",
    "GemmaForCausalLM": "gemma",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3_text",
    "Gemma3ForConditionalGeneration": "gemma3",
    "Gemma4ForConditionalGeneration": "gemma4",
    "GPTForCausalLM": "gpt",
    "GPT2LMHeadModel": "gpt2",
    "OPTForCausalLM": "opt",
    "GPTBigCodeForCausalLM": "gpt_bigcode",
    "BloomForCausalLM": "bloom",
    "MPTForCausalLM": "mpt",
    "MptForCausalLM": "mpt",
    "GPTNeoXForCausalLM": "gpt_neox",
    "GPTJForCausalLM": "gptj",
    "FalconForCausalLM": "falcon",
    "RWForCausalLM": "falcon",
    "Starcoder2ForCausalLM": "starcoder2",
    "NemotronForCausalLM": "nemotron",
    "MixtralForCausalLM": "mixtral",
    "Grok1ForCausalLM": "grok-1",
    "PhiMoEForCausalLM": "phimoe",
    "Qwen2MoeForCausalLM": "qwen2_moe",
    "Qwen3MoeForCausalLM": "qwen3_moe",
    "Glm4MoeForCausalLM": "glm4_moe",
    "HYV3ForCausalLM": "hy_v3",
    "MiniMaxM2ForCausalLM": "minimax_m2",
    "MiniMaxM3ForCausalLM": "minimax_m3",
    "PanguProMoEForCausalLM": "pangu_pro_moe",
    "PanguUltra": "pangu_ultra",
    "PanguUltraMoEForCausalLM": "pangu_ultra_moe",
    "GptOssForCausalLM": "gpt_oss",
    "Llama4ForCausalLM": "llama4_text",
    "Llama4ForConditionalGeneration": "llama4",
    "DeepseekV2ForCausalLM": "deepseek_v2",
    "DeepseekV3ForCausalLM": "deepseek_v3",
    "DeepseekV32ForCausalLM": "deepseek_v32",
    "DeepseekV4ForCausalLM": "deepseek_v4",
    "KimiK25ForConditionalGeneration": "kimi_k25",
    "GlmMoeDsaForCausalLM": "glm_moe_dsa",
    "LongcatFlashForCausalLM": "longcat_flash",
    "KimiLinearForCausalLM": "kimi_linear",
    "Qwen3NextForCausalLM": "qwen3_next",
    "Qwen3_5ForConditionalGeneration": "qwen3_5",
    "Qwen3_5MoeForConditionalGeneration": "qwen3_5_moe",
    "NemotronHForCausalLM": "nemotron_h",
}
