"""Pictures of a fabric: its planes as built, and what every pair gets. Needs matplotlib."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import InputError, MissingExtra
from supertwin.report.fabric_parts import group_of, link_rows

if TYPE_CHECKING:
    from supertwin.network.topology import Graph

_SHOWN_NODES = 4
_DARK, _GREY, _PALE = "#333333", "#8a8f98", "#eceff3"
_STYLES = ((_DARK, "-", -0.12), ("#6b7078", ":", 0.12))  # of the planes below: colour, line, offset
_NODE_TOP = 4.35
_PALETTE = ("#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#e15759", "#76b7b2", "#9c755f", "#edc948")


def heat_map(values: npt.NDArray[np.float64], labels: Mapping[str, str], path: Path) -> None:
    """A square matrix as PNG or SVG by the suffix; 0 (cut off) is drawn black, NaN (no such pair) white.

    labels: title, unit, axis. Raises MissingExtra, InputError (not writable).
    """
    plot = _plot()
    figure, axis = plot.subplots(figsize=(6.4, 5.4))
    colours = plot.get_cmap("viridis").with_extremes(bad="white", under="black")
    finite = values[np.isfinite(values) & (values > 0)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if high - low < 0.02 * abs(high):
        low, high = 0.9 * low, high * 1.05
    shown = axis.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    figure.colorbar(shown, ax=axis, label=labels["unit"], fraction=0.046, pad=0.03)
    axis.set(title=textwrap.fill(labels["title"], 64), xlabel=f"to {labels['axis']}", ylabel=f"from {labels['axis']}")
    axis.title.set_fontsize(10)
    _save(plot, figure, path)


def planes_picture(graph: Graph, path: Path) -> None:
    """Nodes with their devices and switches, the shared switches of each plane, and what joins them."""
    plot = _plot()
    figure, axis = plot.subplots(figsize=(11, 6.6))
    axis.set_axis_off()
    low, high = _Drawing(graph, axis).draw()
    axis.set_xlim(-0.2, 12.2)
    axis.set_ylim(low, high)
    figure.set_size_inches(11, 11 * (high - low) / 12.4)
    _save(plot, figure, path)


class _Drawing:
    """One schematic: a row of nodes in the middle, the scale-up switches above, the other planes below."""

    def __init__(self, graph: Graph, axis: Any) -> None:
        self.graph, self.axis = graph, axis
        self.system = graph.system
        self.bundles = link_rows(graph)
        self.places: dict[str, tuple[float, float]] = {}
        nodes = self.system.nodes
        self.shown = list(range(nodes)) if nodes <= _SHOWN_NODES else [*range(_SHOWN_NODES - 1), nodes - 1]

    def draw(self) -> tuple[float, float]:
        """The whole picture; returns its lowest and highest coordinate."""
        system = self.system
        self._nodes()
        shared = self._shared(("switch-l2", "switch-l1"), 6.0)
        direct = [b for b in self.bundles if b["from"] == b["to"] == "device" and b["plane"] != "d2d"]
        for bundle in direct:
            words = f"{bundle['links']:,} direct links of {bundle['bytes_per_s_each'] / 1e9:.4g} GB/s between devices"
            self._text(6, 4.6, f"{bundle['plane'].upper()} plane: {words}", 9)
        top = 7.2 if shared else 4.9 if direct else 4.6
        title = f"{system.name}: {system.devices:,} devices in {system.nodes:,} node{'s' * (system.nodes > 1)}"
        self._text(6, top, title, 13)
        lower = [plane for plane in self.graph.planes if self._leaves(plane)]
        for row, plane in enumerate(lower):
            self._network(plane, 0.95 - 0.72 * row, _STYLES[row % len(_STYLES)])
        return 1.6 - 0.72 * len(lower), top + 0.25

    def _text(self, x: float, y: float, words: str, size: float = 8, colour: str = _DARK) -> None:
        self.axis.text(x, y, words, ha="center", va="center", fontsize=size, color=colour)

    def _square(self, corner: tuple[float, float], size: tuple[float, float], fill: str) -> None:
        from matplotlib.patches import Rectangle

        self.axis.add_patch(Rectangle(corner, *size, facecolor=fill, linewidth=0))

    def _box(self, corner: tuple[float, float], size: tuple[float, float], fill: str, edge: str = _GREY) -> None:
        from matplotlib.patches import FancyBboxPatch

        style = "round,pad=0,rounding_size=0.04"
        self.axis.add_patch(
            FancyBboxPatch(corner, *size, boxstyle=style, facecolor=fill, edgecolor=edge, linewidth=0.8)
        )

    def _nodes(self) -> None:
        count = len(self.shown)
        hidden = self.system.nodes > count
        width = 12.0 / (count + (0.35 if hidden else 0.0)) - 0.25
        for place, node in enumerate(self.shown):
            gap = 0.35 * (width + 0.25) if hidden and place == count - 1 else 0.0
            x = place * (width + 0.25) + gap
            self._node(node, x, width)
            if gap:
                self._text(x - gap / 2 - 0.12, 3.0, "· · ·", 16, _GREY)

    def _node(self, node: int, x: float, width: float) -> None:
        self._box((x, 1.75), (width, 2.6), _PALE)
        self._text(x + width / 2, 1.9, f"node {node}", 8, _GREY)
        mine = np.flatnonzero(self.graph.part_node == node)
        by_kind: dict[str, list[str]] = {}
        for part in mine:
            by_kind.setdefault(self.graph.kind_of(int(part)), []).append(self.graph.parts[part])
        rows = [("switch-l1", 3.95, 0.3), ("device", 3.15, 0.34), ("cpu", 2.6, 0.26)]
        for kind, y, height in rows:
            if kind in by_kind:
                self._row(kind, by_kind[kind], (x + 0.08, y), (width - 0.16, height))
        ends = [
            f"{len(by_kind[kind])} {word}" for kind, word in (("nic", "adapters"), ("card", "card")) if kind in by_kind
        ]
        if ends:
            self._text(x + width / 2, 2.25, ", ".join(ends), 7.5, _DARK)
        self.places[f"node{node}"] = (x + width / 2, 1.75)

    def _row(self, kind: str, names: Sequence[str], corner: tuple[float, float], size: tuple[float, float]) -> None:
        """One row of equal boxes; dies of a package touch each other."""
        per = self.system.chip.devices_per_package if kind == "device" else 1
        step = size[0] / (len(names) / per)
        each = (step * 0.82) / per
        for index, name in enumerate(names):
            x = corner[0] + (index // per) * step + (index % per) * each + step * 0.09
            fill = self._colour(name) if kind == "switch-l1" else {"device": "#c9d7e8", "cpu": "#e7dcc3"}[kind]
            self._box((x, corner[1]), (each, size[1]), fill)
            self.places[name] = (x + each / 2, corner[1] + size[1])
        packages = len(names) // per
        words = {"device": f"{packages} chips" + (f" of {per} dies" if per > 1 else ""), "cpu": f"{len(names)} CPUs"}
        if kind in words:
            self._text(corner[0] + size[0] / 2, corner[1] - 0.11, words[kind], 7.5)
        else:
            self._text(corner[0] + size[0] / 2, corner[1] - 0.11, f"{len(names)} L1 chips" + self._below_l1(), 7.5)

    def _below_l1(self) -> str:
        each = [b["bytes_per_s_each"] for b in self.bundles if (b["from"], b["to"]) == ("device", "switch-l1")]
        return f", {each[0] / 1e9:.4g} GB/s a link" if each else ""

    def _colour(self, name: str) -> str:
        return _PALETTE[int(name.rsplit("-", 1)[1]) % len(_PALETTE)]

    def _shared(self, kinds: Sequence[str], top: float) -> bool:
        """Groups of switches that nodes share (sub-planes), each with lines to what is below. Whether there are any."""
        found = [(k, [int(p) for p in self.graph.of_kind(k) if self.graph.part_node[p] < 0]) for k in kinds]
        kind, ids = next(((k, ids) for k, ids in found if ids), ("", []))
        groups: dict[str, list[int]] = {}
        for part in ids:
            groups.setdefault(group_of(self.graph.parts[part]), []).append(part)
        names = list(groups)[: len(_PALETTE)]
        for index, name in enumerate(names):
            step = 12.0 / len(names)
            self._group(name, groups[name], (index * step + 0.06, top), step - 0.12)
        if names:
            self._legend(kind, (len(names), len(groups), len(ids)), top)
        return bool(names)

    def _group(self, name: str, members: Sequence[int], corner: tuple[float, float], width: float) -> None:
        tail = name.rsplit("-", 1)[-1]
        colour = _PALETTE[int(tail) % len(_PALETTE)] if tail.isdigit() else _PALETTE[0]
        self._box(corner, (width, 0.52), "white", colour)
        cell = (width - 0.1) / len(members)
        for index in range(len(members)):
            self._square((corner[0] + 0.06 + index * cell, corner[1] + 0.09), (cell * 0.72, 0.2), colour)
        label = (
            f"{'sub-plane ' if width > 1.5 else ''}{tail}: {len(members)} L2"
            if "l2" in name
            else f"{len(members)} switch chips"
        )
        self._text(corner[0] + width / 2, corner[1] + 0.41, label, 7.5, colour)
        into = np.isin(self.graph.link_to, list(members))
        below = [self.graph.parts[p] for p in np.unique(self.graph.link_from[into])]
        ends = [self.places[part] for part in below if part in self.places]
        ends = ends or [
            (self.places[f"node{node}"][0], _NODE_TOP) for node in self.shown
        ]  # the chips below are shared too
        for x, y in ends:
            self.axis.plot([x, corner[0] + width / 2], [y, corner[1]], color=colour, linewidth=0.9, alpha=0.75)

    def _legend(self, kind: str, counts: tuple[int, int, int], top: float) -> None:
        shown, groups, members = counts
        into = [b for b in self.bundles if b["to"] == kind]
        words = f"{members:,} switch chips" + (f" in {groups} sub-planes" if groups > 1 else "")
        words += f" ({shown} shown)" if shown < groups else ""
        for bundle in into:
            medium = "optical" if bundle["optical"] else "electrical"
            words += f";  {bundle['links']:,} {medium} links of {bundle['bytes_per_s_each'] / 1e9:.4g} GB/s"
        self._text(6, top + 0.75, f"{into[0]['plane'].upper() if into else ''} plane: {words}", 9)

    def _leaves(self, plane: str) -> list[int]:
        return [int(p) for p in self.graph.of_kind("leaf") if self.graph.parts[p].split("-")[0] == plane]

    def _network(self, plane: str, y: float, style: tuple[str, str, float]) -> None:
        """A scale-out plane as one bar below the nodes. style: colour, line and offset of its lines."""
        colour, line, shift = style
        mine = [b for b in self.bundles if b["plane"] == plane and b["to"] == "leaf"]
        spines = [p for p in self.graph.of_kind("spine") if self.graph.parts[p].split("-")[0] == plane]
        words = f"{plane.upper()} plane: {len(self._leaves(plane))} leaf"
        words += f" and {len(spines)} spine switches" if spines else " switch"
        for bundle in mine:
            words += f";  {bundle['links']:,} ports of {bundle['bytes_per_s_each'] / 1e9:.4g} GB/s"
        self._box((0.0, y), (12.0, 0.36), "white", colour)
        self._text(6, y + 0.18, words, 9, colour)
        for node in self.shown:
            x, bottom = self.places[f"node{node}"]
            self.axis.plot([x + shift] * 2, [bottom, y + 0.36], color=colour, lw=1.1, linestyle=line, zorder=0)


def _plot() -> Any:
    try:
        import matplotlib as mpl
    except ImportError:
        raise MissingExtra("matplotlib", "plot") from None
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "supertwin"
    import matplotlib.pyplot as plt

    return plt


def _save(plot: Any, figure: Any, path: Path) -> None:
    kind = path.suffix.lower().removeprefix(".")
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    try:
        figure.savefig(path, dpi=96, bbox_inches="tight", metadata=metadata, format=kind)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        plot.close(figure)
