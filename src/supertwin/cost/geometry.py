"""Exact counts of attention: query-key pairs under causal masks, windows and prefixes, tiles, bytes. No machine here.

All functions take floats or arrays that broadcast, and return arrays. Lengths in tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
NO_WINDOW = 1e18  # longer than any context: a window that masks nothing


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of attention calls on one device: arrays of one shape, or that broadcast (see workload.Attention)."""

    batch: Array
    q_len: Array
    kv_len: Array
    heads: Array
    kv_heads: Array
    qk_head_dim: Array
    v_head_dim: Array
    window: Array


def reach(window: Array) -> Array:
    """Keys that a query can see at most: the window, or no limit where it is 0."""
    return np.where(window > 0, window, NO_WINDOW)


def pairs_per_head(shape: Shape, causal: bool) -> Array:
    """Query-key pairs that one head of one sequence computes.

    Causal: query j = 1..q sees min(prefix + j, window) keys with prefix = kv_len - q_len; the sum is closed form.
    """
    limit = reach(shape.window)
    if not causal:
        return shape.q_len * np.minimum(shape.kv_len, limit)
    prefix = np.maximum(shape.kv_len - shape.q_len, 0.0)
    growing = np.minimum(np.maximum(limit - prefix, 0.0), shape.q_len)  # queries whose view the window does not cut
    full = shape.q_len - growing
    return growing * prefix + 0.5 * growing * (growing + 1.0) + full * np.where(full > 0, limit, 0.0)


def attention_flop(shape: Shape, causal: bool) -> Array:
    """Useful FLOPs of the forward pass: 2 (qk + v) per pair and head."""
    pairs = shape.batch * shape.heads * pairs_per_head(shape, causal)
    return 2.0 * (shape.qk_head_dim + shape.v_head_dim) * pairs


def keys_touched(shape: Shape) -> Array:
    """Distinct keys of one sequence that its queries read."""
    return np.minimum(shape.kv_len, reach(shape.window) + shape.q_len - 1.0)


@dataclass(frozen=True, slots=True)
class Tiling:
    """Work split into query blocks: blocks per head, mean and longest key range of a block (in keys)."""

    blocks: Array
    mean_keys: Array
    longest_keys: Array


def tile_queries(shape: Shape, causal: bool, rows: float, columns: float) -> Tiling:
    """Query blocks of `rows`; key ranges rounded up by half a key block of `columns` on average.

    Causal block i = 1..n sees min(prefix + i rows, window + rows) keys: the mean is closed form again.
    """
    limit = reach(shape.window)
    blocks = np.ceil(shape.q_len / rows)
    half = 0.5 * columns
    if not causal:
        keys = np.minimum(shape.kv_len, limit + rows) + half
        return Tiling(blocks, keys, keys)
    prefix = np.maximum(shape.kv_len - shape.q_len, 0.0)
    growing = np.minimum(np.maximum(np.floor((limit + rows - prefix) / rows), 0.0), blocks)
    full = blocks - growing
    total = growing * prefix + rows * 0.5 * growing * (growing + 1.0) + full * np.where(full > 0, limit + rows, 0.0)
    overshoot = np.where(full > 0, 0.0, blocks * rows - shape.q_len)  # the last block is not full
    mean = np.maximum(total - overshoot, 1.0) / np.maximum(blocks, 1.0)
    return Tiling(blocks, mean + half, np.minimum(shape.kv_len, limit + rows) + half)
