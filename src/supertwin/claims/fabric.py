"""Claims about the fabric: what 384 chips on one bus can say to each other (C16), optics (C17), their price (C18)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from supertwin.claims.result import DEPENDS, FAILS, HOLDS, Verdict
from supertwin.machine import load_system, readings
from supertwin.machine.system import System
from supertwin.network import Group, Path, collective_time, exchange_time, transfer_time
from supertwin.network.topology import build
from supertwin.scenarios import run_scenario

PACKAGES = (8, 16, 32, 64, 128, 256, 384)
BUFFER_BYTES = 2.0**30  # per package
TOKENS, HIDDEN, TOPK, EXPERTS = 128.0, 7168.0, 8.0, 256.0  # DeepSeek-V3 layer, CloudMatrix384 paper, table 7
EXCHANGE = ("dispatch", "combine")
EP_SHOWN = 256  # ranks: dies on Ascend, GPUs elsewhere
NARROW, WIDE = 32, 320  # dies that share the experts in decode: one large server's worth, and one expert per die

# 400G module. Power: data sheets of LPO modules; with a signal processor (DSP) about 12 W. Price: asked by vendors'
# pages for 400G (600 to 800 USD) and half an 800G LPO (350 to 450); volume prices of the maker's own parts are lower.
# Mean time between failures: data/measurements/operations.csv, row rel-optic-module.
MODULE_W = (4.0, 7.0)
MODULE_DSP_W = 12.0
MODULE_USD = (200.0, 800.0)
MODULE_MTBF_H = (500_000.0, 2_000_000.0)
TOLERATED = 0.99  # Huawei, June 2025: share of module faults that a job survives (operations.csv)
RESTART_H = 10.0 / 60.0  # the same: recovery of training
YEAR_H = 8766.0
SWITCH_HOP_S = 200e-9  # one hop of UB: Atlas 900 A3 white paper
SMALL_BYTES = 512.0

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Optics:
    """Optical modules of one CloudMatrix 384. Ranges are (low, high)."""

    modules: float
    scale_up: float
    power_w: Range
    price_usd: Range
    failures_per_year: Range

    @property
    def hours_between_failures(self) -> Range:
        """Time between module failures somewhere in the system, (shortest, longest)."""
        low, high = self.failures_per_year
        return YEAR_H / high, YEAR_H / low


def optics_inventory() -> Optics:
    """Modules from the bill of materials times power, price and failure rate of one."""
    counts = load_system("cm384").counts
    modules = counts["transceivers"]
    rates = sorted(modules * YEAR_H / mtbf for mtbf in MODULE_MTBF_H)
    return Optics(
        modules=modules,
        scale_up=counts["scale_up_transceivers"],
        power_w=_times(modules, MODULE_W),
        price_usd=_times(modules, MODULE_USD),
        failures_per_year=(rates[0], rates[1]),
    )


def _times(count: float, each: Range) -> Range:
    return count * each[0], count * each[1]


def all_to_all_bytes_per_s(system: System, packages: int) -> float:
    """What one package sends in an all-to-all of 1 GiB per package over `packages`, bytes/s."""
    per = system.chip.devices_per_package
    seconds = collective_time(system, "all_to_all", BUFFER_BYTES / per, Group(packages * per)).time_s
    return float(BUFFER_BYTES / seconds)


def _layer_s(system: System, ranks: int) -> float:
    """Dispatch and combine of one layer: 128 tokens per rank, hidden 7168, top-8."""
    experts = max(EXPERTS, ranks)
    both = (exchange_time(system, op, TOKENS, HIDDEN, TOPK, Group(ranks), experts=experts) for op in EXCHANGE)
    return float(sum(found.time_s for found in both))


def _decode_per_chip(dies: int) -> float:
    changes = {"system": f"cm384:{dies}", "dp": dies, "ep": dies}
    return run_scenario("cm384-decode-4k", **changes).prediction.tokens_per_s_per_chip


def peer_to_peer() -> Verdict:
    """C16: fully interconnected; scale makes up for the single chip (1+1>2)."""
    systems = {"CM384": load_system("cm384"), "NVL72": load_system("gb200-nvl72"), "H800": load_system("dgx-h800")}
    each = {name: [all_to_all_bytes_per_s(s, n) / 1e9 for n in PACKAGES] for name, s in systems.items()}
    share = {name: 100 * rates[-1] / rates[0] for name, rates in each.items()}
    rack = all_to_all_bytes_per_s(systems["NVL72"], 72) * 72 / 1e12
    whole = {name: rates[-1] * PACKAGES[-1] / 1e3 for name, rates in each.items()}
    narrow, wide = _decode_per_chip(NARROW), _decode_per_chip(WIDE)
    layers = {name: 1e6 * _layer_s(s, EP_SHOWN) for name, s in systems.items()}
    near, far = (transfer_time(systems["CM384"], SMALL_BYTES, Path("ub", far)).time_s * 1e6 for far in (False, True))
    leads = whole["CM384"] > max(rack, whole["NVL72"], whole["H800"])
    grows = wide > narrow
    points = ", ".join(f"{n}" for n in PACKAGES)
    return Verdict(
        f"all-to-all GB/s per package at {points}: "
        + "; ".join(f"{name} " + ", ".join(f"{x:.0f}" for x in rates) for name, rates in each.items())
        + f". Sum at 384: CM384 {whole['CM384']:.0f} TB/s, NVL72 racks {whole['NVL72']:.0f} ({rack:.0f} in one rack of"
        f" 72), H800 {whole['H800']:.0f}. Decode per package EP{WIDE}/EP{NARROW}: {wide / narrow:.2f}x",
        HOLDS if leads and grows else DEPENDS if leads or grows else FAILS,
        f"any pair reads 512 B in {near:.1f} us inside a node and {far:.1f} us across; a single package sends less than"
        f" an NVL72 GPU while the latter stays in its rack, but on one bus {share['CM384']:.0f} % of the rate of"
        f" {PACKAGES[0]} packages is left at {PACKAGES[-1]}, with racks {share['NVL72']:.0f} %, with servers"
        f" {share['H800']:.0f} %; '1+1>2' for experts at a fixed batch per die: {WIDE // NARROW}x the dies decode"
        f" {WIDE / NARROW * wide / narrow:.1f}x the tokens, since fewer experts sit on a die. Dispatch and combine over"
        f" {EP_SHOWN} ranks: " + ", ".join(f"{name} {us:.0f} us" for name, us in layers.items()),
        ("cm2", "nvidia-gb200-ds", "dsv3-hw"),
        each["CM384"][-1],
        "holds when 384 packages exchange more in all than an NVL72 rack, such racks or H800 servers do and more dies"
        " decode more tokens per package; depends when one of the two is true",
    )


def optics() -> Verdict:
    """C17: no copper, optical links throughout, faster and with low latency."""
    ours, theirs = load_system("cm384"), load_system("gb200-nvl72")
    found = optics_inventory()
    near, far = (transfer_time(ours, SMALL_BYTES, Path("ub", inter)).time_s for inter in (False, True))
    hop = (far - near) / 2
    package = ours.chip.devices_per_package * _scale_up(ours)
    copper, copper_s = _scale_up(theirs), _scale_up_latency(theirs)
    true = [_all_optical(ours), package > copper, far < copper_s]
    hours = found.hours_between_failures
    return Verdict(
        f"{found.modules:.0f} modules of 400G, {found.scale_up:.0f} of them scale-up; {found.power_w[0] / 1e3:.0f} to"
        f" {found.power_w[1] / 1e3:.0f} kW, {found.price_usd[0] / 1e6:.1f} to {found.price_usd[1] / 1e6:.1f} MUSD, a"
        f" failure every {hours[0]:.0f} to {hours[1]:.0f} h; {package / 1e9:.0f} GB/s per package against"
        f" {copper / 1e9:.0f} of NVLink copper; 512 B in {1e6 * near:.1f} us through one switch, {1e6 * far:.1f} us"
        " through three",
        HOLDS if all(true) else DEPENDS if any(true) else FAILS,
        "optical holds between nodes (inside a node and a package it is copper); higher bandwidth fails per package"
        f" ({package / copper:.2f}x) and holds for the machine ({384 * package / 72 / copper:.1f}x of one rack); low"
        f" latency holds: the two further hops cost {1e9 * hop:.0f} ns each, {1e9 * SWITCH_HOP_S:.0f} of them in the"
        f" switch, the rest in modules and fibre; NVLink measured {1e6 * copper_s:.1f} us with its software (64 B)",
        ("cm2", "wp-a3", "semianalysis-cm384", "optics-market", "dsv3-hw", "nvidia-gb200-ds"),
        found.modules,
        "holds when every link is optical, a package sends more than an NVLink GPU and 512 B take less time; fails when"
        " none is true",
    )


def _all_optical(system: System) -> bool:
    """Whether the scale-up plane has no electrical link, inside the node included."""
    graph = build(system)
    plane = graph.link_plane == graph.planes.index("ub")
    return bool(graph.link_optical[plane].all())


def _scale_up(system: System) -> float:
    return [tier for tier in system.tiers if not tier.scale_out][-1].bandwidth_bytes_per_s


def _scale_up_latency(system: System) -> float:
    return [tier for tier in system.tiers if not tier.scale_out][-1].latency_s


def optics_share() -> Verdict:
    """C18: optics make the system costlier and more complex."""
    system, found = load_system("cm384"), optics_inventory()
    powers, prices = (_readings(system, name) for name in ("power.system", "price.system"))
    power = _share(found.power_w, powers)
    price = _share(found.price_usd, prices)
    low, high = found.failures_per_year
    lost = [100 * rate * RESTART_H / YEAR_H for rate in (low, high)]
    copper = load_system("gb200-nvl72").counts.get("copper_cable", 0.0)
    return Verdict(
        f"optics are {100 * power[0]:.0f} to {100 * power[1]:.0f} % of the power and {100 * price[0]:.0f} to"
        f" {100 * price[1]:.0f} % of the price; {low:.0f} to {high:.0f} module failures a year",
        HOLDS if price[0] >= 0.05 else DEPENDS if price[1] >= 0.05 else FAILS,
        f"{found.modules:.0f} modules at {MODULE_W[0]:.0f} to {MODULE_W[1]:.0f} W (linear; signal processors would take"
        f" {found.modules * MODULE_DSP_W / 1e3:.0f} kW) and {MODULE_USD[0]:.0f} to {MODULE_USD[1]:.0f} USD (assumption)"
        f" against {min(powers) / 1e3:.0f} to {max(powers) / 1e3:.0f} kW and {min(prices) / 1e6:.1f} to"
        f" {max(prices) / 1e6:.1f} MUSD; NVL72 has {copper:.0f} copper cables and no module in its scale-up. Restarting"
        f" for {60 * RESTART_H:.0f} min at each failure costs {lost[0]:.2f} to {lost[1]:.2f} % of the time,"
        f" {lost[1] * (1 - TOLERATED):.4f} % at most when {100 * TOLERATED:.0f} % of the faults are survived, as the"
        " maker says",
        ("semianalysis-cm384", "wp-a3", "ft-cm384", "tender-a3", "optics-market", "huawei-availability-2025"),
        50.0 * sum(price),
        "holds when the low end of the share of the price is at least 5 %, depends when only the high end is",
    )


def _readings(system: System, name: str) -> list[float]:
    return [reading.value for reading in readings(system.cited[name])]


def _share(part: Range, wholes: list[float]) -> Range:
    return part[0] / max(wholes), part[1] / min(wholes)


ANSWERS: dict[str, Callable[[], Verdict]] = {"C16": peer_to_peer, "C17": optics, "C18": optics_share}
