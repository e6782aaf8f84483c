"""The chip and the system file of a measured processor."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

_CHIP = """\
# Written by `supertwin calibrate` on {date}: measured with numpy on this machine.
title = "The processor of this machine, measured {date}"
like = "local-cpu"

[sources.measured]
title = "numpy on this machine"
kind = "measurement"
date = "{date}"
where = "supertwin.calibration.local"
confidence = "medium"

[peak]
fp32 = {{ value = "{flop:.4g} GFLOP/s", source = "measured", note = "best FP32 product" }}
bf16 = {{ value = "{flop:.4g} GFLOP/s", source = "measured", note = "as FP32: no hardware for it is assumed" }}
fp16 = {{ value = "{flop:.4g} GFLOP/s", source = "measured", note = "as FP32: no hardware for it is assumed" }}
int8 = {{ value = "{flop:.4g} GOP/s", source = "measured", note = "as FP32: no hardware for it is assumed" }}

[vector]
fp32 = {{ value = "{vector:.4g} GFLOP/s", source = "measured", note = "best elementwise pass" }}

[cores]
matrix = {{ value = "{cores} cores", source = "measured", note = "threads of the numerical library while measuring" }}

[memory]
printed = {{ value = "{memory:.4g} GiB", source = "measured", note = "as the operating system reports it" }}
capacity = {{ value = "{memory:.4g} GiB", source = "measured", note = "as the operating system reports it" }}
usable = {{ value = "{usable:.4g} GiB", source = "measured", note = "nine tenths of it" }}
bandwidth = {{ value = "{stream:.4g} GB/s", source = "measured", note = "largest streaming pass" }}

[l2]
capacity = {{ value = "{cache_size:.4g} MiB", source = "measured", note = "last level, by the operating system" }}
bandwidth = {{ value = "{cache:.4g} GB/s", source = "measured", note = "best pass that stays in cache" }}
"""
_SYSTEM = """\
# Written by `supertwin calibrate` on {date}.
title = "This machine, measured {date}"
chip = "{chip}"

[sources.measured]
title = "numpy on this machine"
kind = "measurement"
date = "{date}"
where = "supertwin.calibration.local"
confidence = "medium"

[size]
devices = {{ value = "1 devices", source = "measured", note = "one processor" }}
devices_per_node = {{ value = "1 devices", source = "measured", note = "one processor" }}

[host]
memory_per_node = {{ value = "{memory:.4g} GiB", source = "measured", note = "as the operating system reports it" }}
link = {{ value = "{stream:.4g} GB/s", source = "measured", note = "its own memory" }}

[power]
pue = {{ value = "1 x", source = "measured", note = "no machine room" }}

[[tiers]]
name = "memory"
path = "pcie"
topology = "switch"
devices = {{ value = "1 devices", source = "measured", note = "one processor" }}
bandwidth = {{ value = "{stream:.4g} GB/s", source = "measured", note = "its own memory" }}
latency = {{ value = "{latency:.4g} us", source = "measured", note = "one small call" }}
"""


@dataclass(frozen=True, slots=True)
class LocalPeaks:
    """Best rates of the measurements, SI.

    cores: threads that were used; cache_bytes: last-level cache; memory_bytes: of the machine; call_s: shortest call.
    """

    flop_per_s: float
    vector_flop_per_s: float
    memory_bytes_per_s: float
    cache_bytes_per_s: float
    cache_bytes: float
    cores: int
    memory_bytes: float
    call_s: float

    def as_fields(self) -> dict[str, float]:
        """By name, for a report."""
        return {name: float(value) for name, value in asdict(self).items()}


def write_chip(path: Path, peaks: LocalPeaks, date: str) -> Path:
    """Write the chip file (form of data/chips, like local-cpu). Returns the path."""
    gib = peaks.memory_bytes / 2**30
    text = _CHIP.format(
        date=date,
        flop=peaks.flop_per_s / 1e9,
        vector=peaks.vector_flop_per_s / 1e9,
        cores=peaks.cores,
        memory=gib,
        usable=0.9 * gib,
        stream=peaks.memory_bytes_per_s / 1e9,
        cache_size=peaks.cache_bytes / 2**20,
        cache=max(peaks.cache_bytes_per_s, peaks.memory_bytes_per_s) / 1e9,
    )
    path.write_text(text, encoding="utf-8")
    return path


def write_system(path: Path, chip_file: Path, peaks: LocalPeaks, date: str) -> Path:
    """Write a system of one such chip beside the chip file. Returns the path."""
    text = _SYSTEM.format(
        date=date,
        chip=chip_file.name,
        memory=peaks.memory_bytes / 2**30,
        stream=peaks.memory_bytes_per_s / 1e9,
        latency=peaks.call_s * 1e6,
    )
    path.write_text(text, encoding="utf-8")
    return path
