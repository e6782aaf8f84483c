"""Claims about the machine itself: peaks, memory, power, inventory. Answered from the catalogue alone."""

from __future__ import annotations

from collections.abc import Callable

from supertwin.claims.result import DEPENDS, FAILS, HOLDS, Verdict, near, near_rule
from supertwin.machine import load_chip, load_system
from supertwin.machine import readings as open_readings
from supertwin.machine.chip import Chip, Cited
from supertwin.machine.system import System

PETA, TERA = 1e15, 1e12


def _peak_pflops(system: System, rate: str = "bf16") -> float:
    return system.full_devices * system.chip.peak(rate) / PETA


def _cited(holder: System | Chip, *names: str) -> tuple[str, ...]:
    found = [holder.cited[n] for n in names if n in holder.cited]
    return tuple(dict.fromkeys(reading.source for cited in found for reading in open_readings(cited)))


def _readings(cited: Cited | None) -> list[float]:
    return [reading.value for reading in open_readings(cited)] if cited else []


def peak_of_cm384() -> Verdict:
    """C01: 300 PFLOPS dense BF16."""
    system = load_system("cm384")
    bf16, fp16 = _peak_pflops(system), _peak_pflops(system, "fp16")
    low = system.full_devices * load_chip("ascend-910c-die-560t").peak("bf16") / PETA
    readings = [system.full_devices * r / PETA for r in _readings(system.chip.cited["peak.bf16"])]
    met = near(bf16, 300.0, 0.03) == HOLDS
    possible = any(near(r, 300.0, 0.03) == HOLDS for r in readings)
    return Verdict(
        f"{bf16:.0f} PFLOPS BF16, {fp16:.0f} FP16; {low:.0f} BF16 in the 560T bin",
        HOLDS if met else DEPENDS if possible else FAILS,
        f"768 dies x {system.chip.peak('bf16') / TERA:.1f} TFLOPS give {bf16:.0f}; 300 needs the 780 TFLOPS per package"
        " of one analyst, above the BF16 (708) and the FP16 (752) rating of the 752T bin; lower bins fall short",
        _cited(system.chip, "peak.bf16", "peak.fp16"),
        bf16,
        "holds when the chosen reading is within 3 %, depends when another published reading is",
    )


def peak_of_nvl72() -> float:
    """Dense BF16 of one NVL72 in PFLOPS."""
    return _peak_pflops(load_system("gb200-nvl72"))


def peak_ratio() -> Verdict:
    """C02: nearly double the 160 PFLOPS of NVL72."""
    ours, theirs = _peak_pflops(load_system("cm384")), peak_of_nvl72()
    return Verdict(
        f"{ours / theirs:.2f}x ({ours / 160:.2f}x against 160 PFLOPS)",
        FAILS if ours / theirs < 1.7 else HOLDS,
        f"the data sheet gives NVL72 {theirs:.0f} PFLOPS dense BF16, as another article says;"
        " 160 has no source in the data sheets",
        _cited(load_chip("gb200"), "peak.bf16") + _cited(load_chip("ascend-910c-die"), "peak.bf16"),
        ours / theirs,
        "holds from 1.7 on",
    )


def peak_nvl72_verdict() -> Verdict:
    """C03: NVL72 has 180 PFLOPS."""
    peak = peak_of_nvl72()
    return Verdict(
        f"{peak:.0f} PFLOPS",
        near(peak, 180.0, 0.02),
        "72 GPUs x 2.5 PFLOPS dense BF16",
        _cited(load_chip("gb200"), "peak.bf16"),
        peak,
        near_rule(0.02),
    )


def chip_ratio() -> Verdict:
    """C04: one package has one third of a Blackwell."""
    ours, theirs = load_chip("ascend-910c-die"), load_chip("gb200")
    ratio = ours.peak("bf16") * ours.devices_per_package / theirs.peak("bf16")
    return Verdict(
        f"{ratio:.3f} (GB200), {ours.peak('bf16') * 2 / load_chip('b200-sxm').peak('bf16'):.3f} (B200)",
        near(ratio, 1 / 3, 0.2),
        "dense BF16 per package: two 910C dies against one Blackwell GPU (two dies)",
        _cited(ours, "peak.bf16") + _cited(theirs, "peak.bf16"),
        ratio,
        near_rule(0.2),
    )


def memory_ratio() -> Verdict:
    """C05: 3.6x the memory."""
    a, b = load_system("cm384"), load_system("gb200-nvl72")
    ours, theirs = (s.full_devices * s.chip.printed_memory_bytes / TERA for s in (a, b))
    text = f"{ours:.1f} TB against {theirs:.1f} TB"
    return Verdict(
        f"{ours / theirs:.2f}x",
        near(ours / theirs, 3.6),
        text,
        _cited(a.chip, "memory.printed") + _cited(b.chip, "memory.printed"),
        ours / theirs,
        near_rule(0.1),
    )


def bandwidth_ratio() -> Verdict:
    """C06: 2.1x the memory bandwidth."""
    a, b = load_system("cm384"), load_system("gb200-nvl72")
    ours, theirs = (s.full_devices * s.chip.memory_bytes_per_s / TERA for s in (a, b))
    return Verdict(
        f"{ours / theirs:.2f}x",
        near(ours / theirs, 2.1),
        f"{ours:.0f} TB/s against {theirs:.0f} TB/s",
        _cited(a.chip, "memory.bandwidth") + _cited(b.chip, "memory.bandwidth"),
        ours / theirs,
        near_rule(0.1),
    )


def power_ratio() -> Verdict:
    """C07: many times the energy of NVL72 (3.9x)."""
    a, b = load_system("cm384"), load_system("gb200-nvl72")
    ours, theirs = _readings(a.cited.get("power.system")), _readings(b.cited.get("power.system"))
    ratios = [x / y for x in ours for y in theirs]
    chosen = (a.power_w or 0.0) / (b.power_w or 1.0)
    return Verdict(
        f"{chosen:.1f}x (readings {min(ratios):.1f} to {max(ratios):.1f}x)",
        HOLDS if min(ratios) >= 3.0 else DEPENDS,
        f"{(a.power_w or 0) / 1e3:.0f} kW against {(b.power_w or 0) / 1e3:.0f} kW;"
        f" published readings of CM384 span {min(ours) / 1e3:.0f} to {max(ours) / 1e3:.0f} kW",
        _cited(a, "power.system") + _cited(b, "power.system"),
        chosen,
        "holds when even the smallest ratio of the published readings is 3 or more",
    )


def inventory() -> Verdict:
    """C15: 384 NPUs and 192 CPUs."""
    counts = load_system("cm384").counts
    npus, cpus = counts["npu_packages"], counts["cpus"]
    return Verdict(
        f"{npus:.0f} / {cpus:.0f}",
        HOLDS if (npus, cpus) == (384, 192) else FAILS,
        "48 nodes of 8 packages and 4 Kunpeng CPUs each",
        _cited(load_system("cm384"), "size.devices", "parts.cpu.count"),
        npus,
        "holds when both counts agree",
    )


def successor() -> Verdict:
    """C23: the 910D as a what-if chip."""
    new, old = load_chip("ascend-910d"), load_chip("h100-sxm")
    ratio = new.peak("bf16") * new.devices_per_package / old.peak("bf16")
    watts = new.tdp_w * new.devices_per_package
    return Verdict(
        f"{ratio:.2f}x H100 in dense BF16 per package at {watts:.0f} W",
        DEPENDS,
        "never officially announced: the what-if chip takes four 910C dies as the press has it;"
        " change the file and rerun `supertwin compare`",
        _cited(new, "peak.bf16", "power.tdp"),
        ratio,
        "depends: no data sheet exists",
    )


ANSWERS: dict[str, Callable[[], Verdict]] = {
    "C01": peak_of_cm384,
    "C02": peak_ratio,
    "C03": peak_nvl72_verdict,
    "C04": chip_ratio,
    "C05": memory_ratio,
    "C06": bandwidth_ratio,
    "C07": power_ratio,
    "C15": inventory,
    "C23": successor,
}
