"""Operator tables as held-out rows, each set with the way in which the calibration in use predicts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.calibration import attention_fit, experts_files, gemm_files, vector_fit
from supertwin.calibration.experts_fit import ExpertRows, expert_rows
from supertwin.calibration.gemm_fit import held_out_masks
from supertwin.calibration.links_exchange import ExchangeSample
from supertwin.calibration.links_fit import Sample
from supertwin.calibration.links_tables import Bench, ExchangeBench, comm_samples, exchange_samples
from supertwin.calibration.module_check import module_rows
from supertwin.calibration.operator_tables import FAMILY_TABLES, check_tables
from supertwin.calibration.tables import GemmRows, gemm_rows
from supertwin.cost.attention import AttentionModel
from supertwin.cost.attention_kernels import attention_times
from supertwin.cost.calibration import Calibration, load_calibration
from supertwin.cost.surface import Array
from supertwin.cost.vector import constants_of
from supertwin.machine.chip import Chip
from supertwin.machine.chips import load_chip
from supertwin.machine.systems import system_for_chip
from supertwin.network.collective import collective_time
from supertwin.network.exchange import evaluate_exchange
from supertwin.network.links import load_links

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """Held-out rows of one set: measured seconds [rows], how to predict some of them, and rows that were fitted."""

    chip: str
    kind: str
    fitted: int
    measured_s: Array
    predict: Callable[[Index], Array]


def _products(folder: Path) -> Iterator[Part]:
    rows = gemm_rows(folder)
    for part, held in zip(rows, held_out_masks(rows), strict=True):
        chip = load_chip(part.chip)
        unseen = part.take(held)
        kind = {"mla_bmm": "mla_bmm", "grouped": "grouped_gemm"}.get(part.gemm.part, "gemm")
        predict = partial(_product_s, chip, load_calibration(chip, "gemm"), unseen)
        yield Part(chip.name, kind, int((~held).sum()), unseen.time_s, predict)


def _product_s(chip: Chip, calibration: Calibration, rows: GemmRows, index: Index) -> Array:
    return gemm_files.predicted(chip, calibration, rows.take(index))


def _experts(folder: Path) -> Iterator[Part]:
    for part in expert_rows(folder):
        chip = load_chip(part.chip)
        unseen = part.take(part.held)
        predict = partial(_expert_s, chip, load_calibration(chip, "experts"), unseen)
        yield Part(chip.name, "moe", int((~part.held).sum()), unseen.time_s, predict)


def _expert_s(chip: Chip, calibration: Calibration, rows: ExpertRows, index: Index) -> Array:
    return experts_files.predicted_experts(chip, calibration, rows.take(index))


def _attention(folder: Path) -> Iterator[Part]:
    chips = check_tables(folder, FAMILY_TABLES["attention"])
    for table_chip in sorted({*chips["attention_prefill"], *chips["attention_decode"]}):
        chip = load_chip(table_chip)
        for rows in attention_fit.load_rows(folder, table_chip):
            kind = f"attention {rows.variant.phase}"
            predict = partial(_attention_s, chip, rows)
            yield Part(chip.name, kind, int((~rows.test).sum()), rows.measured_s[rows.test], predict)


def _attention_s(chip: Chip, rows: attention_fit.Rows, index: Index) -> Array:
    kernel = AttentionModel(chip, rows.library).kernel(rows.variant)
    shape = rows.part(np.flatnonzero(rows.test)[index])
    return attention_times(chip, rows.variant, shape, kernel.constants, kernel.surface).time_s


def _vectors(folder: Path) -> Iterator[Part]:
    for table_chip in check_tables(folder, FAMILY_TABLES["vector"])["norm_elementwise"]:
        chip = load_chip(table_chip)
        calibration = load_calibration(chip, "vector")
        for rows in vector_fit.load_rows(folder, table_chip):
            kind = "norm" if rows.op == "norm" else "elementwise"
            predict = partial(_vector_s, chip, calibration, rows)
            yield Part(chip.name, kind, int((~rows.test).sum()), rows.measured_s[rows.test], predict)


def _vector_s(chip: Chip, calibration: Calibration, rows: vector_fit.VectorRows, index: Index) -> Array:
    wanted = np.zeros(len(rows.test), dtype=bool)
    wanted[np.flatnonzero(rows.test)[index]] = True
    constants = constants_of(calibration, rows.op, rows.context)
    return vector_fit.predict(chip, replace(rows, test=wanted), constants, calibration.surface(rows.name))


def _links(folder: Path) -> Iterator[Part]:
    yield from _collectives(folder)
    yield from _exchanges(folder)


def _collectives(folder: Path) -> Iterator[Part]:
    for bench, fit, held in comm_samples(folder):
        chip = load_chip(bench.chip).name
        yield Part(chip, "comm", sum(len(s.seconds) for s in fit), *_NOTHING)
        for sample in held:
            yield Part(chip, "comm", 0, sample.seconds, partial(_collective_s, bench, sample))


def _collective_s(bench: Bench, sample: Sample, index: Index) -> Array:
    system = replace(system_for_chip(bench.chip), tiers=sample.tiers)
    library = "nccl" if bench.op == "p2p" and bench.library == "nccl-vidur" and not bench.across else bench.library
    message_bytes = sample.message_bytes[index]
    return np.asarray(collective_time(system, bench.op, message_bytes, sample.group, library=library).time_s)


def _exchanges(folder: Path) -> Iterator[Part]:
    for bench, fit, held in exchange_samples(folder):
        chip = load_chip(bench.chip).name
        yield Part(chip, "ep_all_to_all", sum(len(s.seconds) for s in fit), *_NOTHING)
        for sample in held:
            yield Part(chip, "ep_all_to_all", 0, sample.seconds, partial(_exchange_s, bench, sample))


def _exchange_s(bench: ExchangeBench, sample: ExchangeSample, index: Index) -> Array:
    links, op = load_links(load_chip(bench.chip)), bench.op.replace("_", "-")
    found = links.group(f"exchange/{bench.library}/{bench.mode}/{op}")
    if found is None:  # a library that this chip's calibration does not know: the prior of the mode
        found = links.group(f"exchange/any/{bench.mode}/{op.split('-')[0]}") or {}
    arrays: dict[str, Any] = {n: np.asarray(getattr(sample.call, n))[index] for n in _EXCHANGE_ARRAYS}
    return np.asarray(evaluate_exchange(found, sample.levels, replace(sample.call, **arrays), bench.mode).time_s)


def _blocks(folder: Path) -> Iterator[Part]:
    """Whole attention blocks: sums of operators, nothing is fitted on them."""
    for rows in module_rows(folder):
        yield Part(load_chip(rows.key["chip"]).name, f"{rows.key['kind']} block", 0, rows.measured_s, rows.predicted_s)


_EXCHANGE_ARRAYS = ("tokens_per_rank", "hidden", "topk", "experts")
_NOTHING: tuple[Array, Callable[[Index], Array]] = (np.zeros(0), lambda index: np.zeros(len(index)))

READERS: Mapping[str, Callable[[Path], Iterator[Part]]] = {
    "gemm": _products,
    "experts": _experts,
    "attention": _attention,
    "vector": _vectors,
    "links": _links,
    "blocks": _blocks,
}
