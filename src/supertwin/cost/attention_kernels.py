"""Cost of attention on one device: prefill and training (many queries), decode (few queries against a long cache).

Physics with few constants per kernel variant, times a residual surface where operator measurements exist.
A variant is a phase, a kind (gqa, mla, sparse, indexer), the head size and the formats of queries and of the cache.

Prefill. Query blocks of `rows` are spread over the matrix cores. A block with L keys takes
    tile_s + L rows c,   c = |2 (qk + v) / (rate R),  1 / X|_2   per query-key pair and core,
R the matrix peak of a core, X its exponentials per second (FlashAttention-3, arXiv 2407.08608, section 3.1: the
special-function units are the second bottleneck). The call takes
    start_s + max(|mean load of a core, longest block|_sharp, bytes / (memory B)).
A long call heats the chip to its power limit: its compute time t grows by throttle t / (t + 10 ms).

Decode. Every (sequence, KV head, tile of 64 query rows) streams its keys once; with fewer of them than cores the keys
are split and the parts reduced (FlashDecoding). With w waves of tiles, s splits and a share b of the cores busy:
    |start_s + spread_s b + tile_s w + split_s log2 s,
     max(bytes / (memory B min(draw b, 1)), padded FLOP / (rate R b) + padded pairs x vector_flop / (V b))|_sharp,
V the vector peak. Optional: vector_flop, vector work per query-key pair that takes turns with the products; spread_s,
what starting all cores adds to one; draw (1), what a core can draw over its share of the bandwidth;
tile_rows (64); block_keys: blocks of so many keys are spread evenly over the cores; split_most, split_keys,
split_queries: keys are split up to so many items over cores, from so many keys and up to so many queries per sequence.
|a, b|_p is the p-norm (a^p + b^p)^(1/p): a soft maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from supertwin.core.formats import number_format
from supertwin.cost.geometry import Array, Shape, attention_flop, keys_touched, tile_queries
from supertwin.cost.memory import smooth_maximum
from supertwin.cost.surface import Surface
from supertwin.machine.chip import Chip

BACKWARD_FLOP = 2.5  # five products against two (FlashAttention-2, arXiv 2307.08691, section 3.1.2)
EXP_PER_VECTOR_FLOP = 1.0 / 16.0  # 16 exponentials per clock and core beside 256 FP32 FLOP (arXiv 2407.08608)
QUERY_TILE = 64.0  # rows of the matrix instruction that decode kernels pack grouped query heads into
KEY_BLOCK = 128.0
THROTTLE_S = 0.01  # a kernel that runs longer than about this meets the power limit: the clock falls (throttle)


@dataclass(frozen=True, slots=True)
class Variant:
    """What selects the kernel. phase: prefill | decode; kind: gqa | mla | sparse | indexer; direction: fwd | bwd."""

    phase: str
    kind: str
    head_dim: int
    dtype: str = "bf16"
    kv_dtype: str = "bf16"
    causal: bool = True
    direction: str = "fwd"

    @property
    def name(self) -> str:
        """Name of its group in a calibration file. Formats are classed by width: 16 bit or 8 bit and below."""
        query, cache = format_class(self.dtype), format_class(self.kv_dtype)
        mask = "" if self.causal else "/full"
        back = "" if self.direction == "fwd" else "/bwd"
        return f"{self.phase}/{self.kind}/{self.head_dim}/{query}/{cache}{mask}{back}"


@dataclass(frozen=True, slots=True)
class Times:
    """Parts of a call: total, what compute and memory alone need, the fixed part [s]; useful FLOP and bytes."""

    time_s: Array
    compute_s: Array
    memory_s: Array
    overhead_s: Array
    flop: Array
    bytes: Array


# assumption: a well-tuned kernel on a chip without measurements. Shares of peak; seconds as on Hopper.
PRIORS: Mapping[str, Mapping[str, float]] = {
    "prefill": {"start_s": 8e-6, "tile_s": 1.5e-6, "rate": 0.7, "memory": 0.8, "sharp": 3.0, "rows": 128.0},
    "decode": {"start_s": 8e-6, "tile_s": 3e-6, "rate": 0.5, "memory": 0.85, "split_s": 7e-7, "sharp": 1.3},
    "bwd": {
        "start_s": 2e-5,
        "tile_s": 2e-6,
        "rate": 0.55,
        "memory": 0.8,
        "split_s": 7e-7,
        "sharp": 3.0,
        "rows": 128.0,
    },
    "sparse": {"start_s": 8e-6, "tile_s": 3e-6, "rate": 0.6, "memory": 1.0, "split_s": 7e-7, "sharp": 2.0},
}


def prior_of(variant: Variant) -> Mapping[str, float]:
    """Documented prior of a variant."""
    if variant.direction == "bwd":
        return PRIORS["bwd"]
    return PRIORS["sparse"] if variant.kind == "sparse" and variant.phase == "prefill" else PRIORS[variant.phase]


def format_class(dtype: str) -> str:
    """bf16 for 16-bit and wider formats, fp8 for 8 bits and below: kernels differ by width, not by name."""
    return "bf16" if number_format(dtype).bytes_per_element >= 2.0 else "fp8"


def attention_times(
    chip: Chip, variant: Variant, shape: Shape, constants: Mapping[str, float], surface: Surface | None = None
) -> Times:
    """Price calls of one variant. Arrays of `shape` broadcast; the result has their common shape."""
    formula = decode_times if variant.phase == "decode" or variant.kind == "sparse" else prefill_times
    times = formula(chip, variant, shape, constants)
    if surface is None:
        return times
    factor = surface.factor(coordinates(surface.axes, variant, shape))
    return Times(
        times.time_s * factor,
        times.compute_s * factor,
        times.memory_s * factor,
        times.overhead_s * factor,
        times.flop,
        times.bytes,
    )


def traffic_bytes(variant: Variant, shape: Shape) -> Array:
    """HBM bytes of the forward pass: queries and output in 16 bit, keys and values once per sequence."""
    cache = number_format(variant.kv_dtype).bytes_per_element
    latent = variant.kind == "sparse" or (variant.kind == "mla" and variant.phase == "decode")
    width = shape.qk_head_dim if latent else None
    per_key = shape.kv_heads * (shape.qk_head_dim + shape.v_head_dim if width is None else width)
    queries = shape.q_len * shape.heads * (shape.qk_head_dim + shape.v_head_dim) * 2.0
    return shape.batch * (keys_touched(shape) * per_key * cache + queries)


def prefill_times(chip: Chip, variant: Variant, shape: Shape, constants: Mapping[str, float]) -> Times:
    """Formula of the module head for many queries. constants: start_s tile_s rate memory sharp rows."""
    backward = variant.direction == "bwd"
    rows = constants["rows"]
    tiles = tile_queries(shape, variant.causal, rows, KEY_BLOCK)
    pair_s = _pair_seconds(chip, variant, shape, constants) * (BACKWARD_FLOP if backward else 1.0)
    count = shape.batch * shape.heads * tiles.blocks / chip.matrix_cores
    mean = count * (constants["tile_s"] + tiles.mean_keys * rows * pair_s)
    longest = constants["tile_s"] + tiles.longest_keys * rows * pair_s
    compute = smooth_maximum(mean, longest, constants["sharp"])
    compute = compute * (1.0 + constants.get("throttle", 0.0) * compute / (compute + THROTTLE_S))
    moved = traffic_bytes(variant, shape) * (3.0 if backward else 1.0)
    memory = moved / (constants["memory"] * chip.memory_bytes_per_s)
    overhead = constants["start_s"] + 0.0 * compute
    flop = attention_flop(shape, variant.causal) * (BACKWARD_FLOP if backward else 1.0)
    return Times(overhead + np.maximum(compute, memory), compute, memory, overhead, flop, moved)


def decode_times(chip: Chip, variant: Variant, shape: Shape, constants: Mapping[str, float]) -> Times:
    """Formula of the module head for few queries. constants: start_s tile_s rate memory split_s sharp."""
    cores = chip.matrix_cores
    rows = shape.q_len * shape.heads / shape.kv_heads
    most_rows = constants.get("tile_rows", QUERY_TILE)
    row_tiles = np.ceil(rows / most_rows)
    items = shape.batch * shape.kv_heads * row_tiles
    keys = keys_touched(shape)
    splits = np.minimum(np.maximum(np.floor(cores / items), 1.0), np.ceil(keys / KEY_BLOCK))
    if "split_most" in constants:
        few = (items <= constants["split_most"] * cores) & (keys >= constants["split_keys"])
        splits = np.where(few & (shape.q_len <= constants["split_queries"]), splits, 1.0)
    if "block_keys" in constants:
        splits = np.minimum(np.maximum(cores / items, 1.0), np.ceil(keys / constants["block_keys"]))
    waves = np.maximum(np.ceil(items * splits / cores), 1.0)
    busy = np.minimum(1.0, items * splits / cores)
    padded_rows = np.minimum(np.ceil(rows / 8.0) * 8.0, most_rows * row_tiles)
    work = 2.0 * shape.batch * shape.kv_heads * padded_rows * keys * (shape.qk_head_dim + shape.v_head_dim)
    moved = traffic_bytes(variant, shape)
    memory = moved / (constants["memory"] * chip.memory_bytes_per_s)
    compute = work / (constants["rate"] * chip.peak(number_format(variant.dtype).rate))
    if "vector_flop" in constants:
        pairs = shape.batch * shape.kv_heads * padded_rows * keys
        compute = compute + pairs * constants["vector_flop"] / chip.vector_flop_per_s
    fixed = constants["start_s"] + constants["tile_s"] * waves + constants["split_s"] * np.log2(splits)
    fixed = fixed + constants.get("spread_s", 0.0) * busy
    compute, memory = compute / busy, memory / np.minimum(constants.get("draw", 1.0) * busy, 1.0)
    time = smooth_maximum(fixed, np.maximum(memory, compute), constants["sharp"])
    flop = attention_flop(shape, variant.causal)
    return Times(time, compute, memory, fixed, flop, moved)


def coordinates(axes: tuple[str, ...], variant: Variant, shape: Shape) -> list[Array]:
    """log2 coordinates of a residual surface by axis name.

    items: sequences x KV heads (decode) or x heads (prefill); q: new tokens; keys: keys within the window; group: query
    heads per KV head, with the new tokens of a sequence in latent decode, where both are rows of one product (of other
    attention one new token is measured, and kernels are chosen by the model's group, not by its rows); depth: kv_len /
    q_len; windowed: 1 where a window cuts the context, else 0.
    """
    latent = variant.phase == "decode" and variant.kind != "gqa"
    heads = shape.kv_heads if variant.phase == "decode" else shape.heads
    table: dict[str, Callable[[], Array]] = {
        "items": lambda: shape.batch * heads,
        "q": lambda: shape.q_len,
        "keys": lambda: keys_touched(shape),
        "group": lambda: (shape.q_len if latent else 1.0) * shape.heads / shape.kv_heads,
        "depth": lambda: shape.kv_len / shape.q_len,
        "windowed": lambda: np.where((shape.window > 0) & (shape.window < shape.kv_len), 2.0, 1.0),
    }
    return [np.log2(table[axis]()) for axis in axes]


def _pair_seconds(chip: Chip, variant: Variant, shape: Shape, constants: Mapping[str, float]) -> Array:
    """Core-seconds per query-key pair: matrix products and exponentials overlap, softly; kernels with a measured
    `vector_s` take turns (mix 1), as matrix and vector cores that meet in memory do."""
    peak = chip.peak(number_format(variant.dtype).rate) / chip.matrix_cores
    products = 2.0 * (shape.qk_head_dim + shape.v_head_dim) / (constants["rate"] * peak)
    if "vector_s" in constants:
        return smooth_maximum(products, np.asarray(constants["vector_s"]), constants["mix"])
    exponentials = chip.matrix_cores / (EXP_PER_VECTOR_FLOP * chip.vector_flop_per_s)
    return smooth_maximum(products, np.asarray(exponentials), 2.0)
