"""Kernels of DeepSeek-V4's hyper-connections and compressors on Ascend.

910C: cann-recipes-infer fbc225d, docs/models/deepseek_v4/deepseek_v4_mHC_guide.md, times of HcPre and HcPost with four
streams of 4,096 values. 950PR: one token of DeepSeek-V4-Flash under the same recipe (hw-native-sys/pypto-lib, issue
1054, side by side table: hc_pre, hc_post, compressors); slopes over bytes are those of 910C.
"""

from __future__ import annotations

from collections.abc import Mapping

SOURCE = "cann-recipes-infer fbc225d: HcPre and HcPost on 910C"
NEXT_SOURCE = "pypto-lib issue 1054: kernels of DeepSeek-V4-Flash on 950PR, one token"
VECTORS: Mapping[str, tuple[tuple[float, float, float], ...]] = {
    "hyper_pre": (
        (16, 20480, 32.8), (32, 20480, 37.0), (64, 20480, 44.0), (128, 20480, 60.0), (4096, 20480, 1254.9),
        (16384, 20480, 4784.2), (65536, 20480, 18545.4),
    ),
    "hyper_post": (
        (8, 36864, 5.09), (16, 36864, 5.37), (32, 36864, 6.99), (64, 36864, 9.16), (128, 36864, 13.85),
        (4096, 36864, 319.86), (16384, 36864, 1264.7), (65536, 36864, 5044.5),
    ),
}  # fmt: skip
"""(tokens, values per token read and written, microseconds)."""

STARTS: Mapping[str, float] = {"hyper_pre": 11.7e-6, "hyper_post": 4.3e-6}
"""Seconds of one token on 950PR."""
COMPRESSORS = ((2.0 * 4096 * 2048, 28.9), (2.0 * 4096 * 1024, 19.8), (2.0 * 4096 * 512, 18.9))
"""(bytes of BF16 weights, microseconds) of one token on 950PR: ratio 4, ratio 128, keys of the indexer."""
