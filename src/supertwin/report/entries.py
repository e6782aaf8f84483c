"""Entries of the catalogue as text and as JSON fields: the list of all, one chip, one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from supertwin.machine import Chip, load_chip, load_system
from supertwin.machine.chip import stated
from supertwin.machine.chips import chip_names
from supertwin.machine.systems import system_names
from supertwin.model import ModelSpec, load_model, model_names, parameter_count
from supertwin.report.machines import source_fields
from supertwin.report.tables import grid, heading, pairs, sources_table
from supertwin.report.text import UNKNOWN, gib, number, si

if TYPE_CHECKING:
    from rich.console import RenderableType

_KIND = {"systems": "supertwin show NAME; --on NAME:N", "chips": "supertwin show NAME", "models": "supertwin show NAME"}


def catalogue_fields() -> dict[str, list[dict[str, Any]]]:
    """Names of all shipped systems, chips and models, each with one line about it."""
    return {
        "systems": [_system_line(name) for name in system_names()],
        "chips": [{"name": name, "title": load_chip(name).title} for name in chip_names()],
        "models": [_model_line(name) for name in model_names()],
    }


def catalogue_view(fields: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[RenderableType]:
    """One line per entry."""
    view: list[RenderableType] = []
    for kind, entries in fields.items():
        rows = [(str(entry["name"]), str(entry["title"])) for entry in entries]
        view += [heading(kind.capitalize(), _KIND[kind]), grid(("", ""), rows, wrap=1), Text()]
    return view[:-1]


def _system_line(name: str) -> dict[str, Any]:
    system = load_system(name)
    return {
        "name": name,
        "title": f"{system.title}: {system.full_devices:,} x {system.chip.name}",
        "devices": system.full_devices,
        "chip": system.chip.name,
    }


def _model_line(name: str) -> dict[str, Any]:
    model = load_model(name)
    count = parameter_count(model)
    active = "" if count.active > 0.9 * count.total else f", {count.active / 1e9:,.1f} B active"
    return {
        "name": name,
        "title": f"{model.architecture}: {count.total / 1e9:,.1f} B parameters{active}, {model.n_layers} layers",
        "parameters": count.total,
        "active_parameters": count.active,
    }


def chip_fields(chip: Chip) -> dict[str, Any]:
    """JSON fields of one chip: per device, SI units."""
    names = (
        "name", "title", "vendor", "architecture", "devices_per_package", "memory_bytes", "usable_memory_bytes",
        "memory_bytes_per_s", "l2_bytes", "tdp_w", "idle_w", "matrix_cores", "clock_hz", "system",
    )  # fmt: skip
    return {
        **{name: getattr(chip, name) for name in names},
        "peak_flop_per_s": dict(chip.peak_flop_per_s),
        "sources": [source_fields(name, cited) for name, cited in chip.cited.items()],
    }


def chip_view(chip: Chip, explain: bool) -> list[RenderableType]:
    """Peaks, memory, power; with explain every value with its source."""
    peaks = ", ".join(f"{rate.upper()} {si(peak, 'FLOP/s')}" for rate, peak in sorted(chip.peak_flop_per_s.items()))
    rows = [
        ("vendor", f"{chip.vendor}, {chip.architecture}"),
        ("device", f"one of {chip.devices_per_package} in a package" if chip.devices_per_package > 1 else "the chip"),
        ("dense peak", peaks),
        ("matrix cores", f"{chip.matrix_cores} at {si(chip.clock_hz, 'Hz')}"),
        ("memory", f"{gib(chip.memory_bytes)}, {gib(chip.usable_memory_bytes)} of it usable"),
        ("bandwidth", si(chip.memory_bytes_per_s, "B/s")),
        ("power", f"{si(chip.tdp_w, 'W')}, idle {si(chip.idle_w, 'W')}"),
        ("found in", chip.system or UNKNOWN),
    ]
    view: list[RenderableType] = [heading(f"{chip.name}: {chip.title}"), pairs(rows)]
    if not explain:
        return [*view, Text("  --explain lists every value with its source", style="dim")]
    sources = [
        (name, stated(cited), cited.source or cited.note or UNKNOWN, cited.kind) for name, cited in chip.cited.items()
    ]
    return [*view, Text(), heading("Where each value comes from"), sources_table(sources)]


def model_fields(model: ModelSpec) -> dict[str, Any]:
    """JSON fields of one model; cache per token over all layers in BF16, whole (not cut over devices)."""
    count = parameter_count(model)
    return {
        "name": model.name,
        "architecture": model.architecture,
        "layers": model.n_layers,
        "hidden": model.hidden,
        "vocab": model.vocab,
        "max_positions": model.max_positions or None,
        "parameters": count.total,
        "active_parameters": count.active,
        "mtp_parameters": count.mtp,
        "experts": _largest(model, "experts"),
        "experts_per_token": _largest(model, "topk"),
        "attention": sorted({layer.attention.kind for layer in model.layers if layer.attention is not None}),
        "kv_cache_bytes_per_token": cache_bytes_per_token(model),
        "weight_format": model.weight_format or None,
        "multimodal": model.multimodal,
    }


def model_view(model: ModelSpec, explain: bool) -> list[RenderableType]:
    """Dimensions and counts; with explain the kinds of layers."""
    fields = model_fields(model)
    experts = f"{fields['experts']}, {fields['experts_per_token']} per token" if fields["experts"] else "none"
    rows = [
        ("architecture", model.architecture),
        ("layers", f"{model.n_layers}, hidden {model.hidden:,}, vocabulary {model.vocab:,}"),
        (
            "parameters",
            f"{fields['parameters'] / 1e9:,.2f} B, {fields['active_parameters'] / 1e9:,.2f} B active per token",
        ),
        ("MTP modules", f"{model.mtp_count}, {fields['mtp_parameters'] / 1e9:,.2f} B" if model.mtp_count else "none"),
        ("experts", experts),
        ("attention", ", ".join(fields["attention"]) or "none"),
        ("KV cache", f"{number(fields['kv_cache_bytes_per_token'] / 1024)} KiB per token in BF16"),
        ("positions", f"{model.max_positions:,}" if model.max_positions else UNKNOWN),
        ("checkpoint", model.weight_format or "not quantised"),
    ]
    view: list[RenderableType] = [heading(f"{model.name}: {model.architecture}"), pairs(rows)]
    if model.multimodal:
        view.append(Text("  note: the vision or audio part is left out", style="yellow"))
    if explain:
        kinds = [(f"{layer.count} layers", f"{layer.attention}; {layer.feed_forward}") for layer in model.layers]
        view += [Text(), heading("Layers"), grid(("", ""), kinds, wrap=1)]
    return view


def cache_bytes_per_token(model: ModelSpec) -> float:
    """Stored keys and values of one token over all layers in BF16; recurrent layers keep a state instead."""
    from supertwin.workload.attention import stored_bytes_per_token
    from supertwin.workload.shard import Shard

    return float(
        sum(
            float(stored_bytes_per_token(layer.attention, Shard())) * layer.count
            for layer in model.layers
            if layer.attention is not None
        )
    )


def _largest(model: ModelSpec, name: str) -> int:
    return max(
        (getattr(layer.feed_forward, name) for layer in model.layers if layer.feed_forward is not None), default=0
    )
