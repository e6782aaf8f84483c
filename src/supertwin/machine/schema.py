"""What a catalogue file may say: one row per attribute (name, dimension, required, description).

The same rows drive the validation of the loader and the tables of docs/machines.md.
"""

from __future__ import annotations

from typing import NamedTuple

VENDORS = ("amd", "google", "huawei", "intel", "nvidia", "other")
RATES = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4", "int4")
TOPOLOGIES = ("switch", "mesh", "ring", "torus", "fat-tree")
PATHS = ("nvlink", "xgmi", "ib", "roce", "ub", "hccs", "pcie", "efa", "tcp", "ici", "d2d")
PART_GROUPS = ("chip", "cpu", "switch", "optics", "cable", "memory", "other", "structure")
FOLLOWS = ("none", "network", "compute")
VALUE_KINDS = ("spec", "assumption", "inferred")
ALTERNATIVE_KINDS = (*VALUE_KINDS, "refuted")


class Attribute(NamedTuple):
    """One attribute of a file. dimension "text" and "list" are plain TOML values; all others are cited quantities."""

    name: str
    dimension: str
    required: bool
    description: str


CHIP = (
    Attribute("title", "text", True, "full name for people"),
    Attribute("vendor", "text", True, "one of " + ", ".join(VENDORS)),
    Attribute("architecture", "text", True, "family that shares kernels, such as hopper or da-vinci-220x"),
    Attribute("aliases", "list", False, "other spellings of the name"),
    Attribute("like", "text", False, "chip (name or path) from which every value not given here is taken"),
    Attribute("relative", "text", False, "chip whose operator calibration is inherited; with `like`, that chip"),
    Attribute("sibling", "text", False, "chip with the same die, whose operator calibration completes this one's"),
    Attribute("system", "text", True, "system that the chip is normally found in"),
    *(
        Attribute(f"peak.{rate}", "flop_per_s", False, f"dense matrix peak in {rate} per device; absent: no hardware")
        for rate in RATES
    ),
    Attribute("vector.fp32", "flop_per_s", True, "FP32 rate of the vector units per device"),
    Attribute("cores.matrix", "count", True, "cores with a matrix engine: SM, AIC core, CU, TensorCore"),
    Attribute("cores.vector", "count", False, "vector cores where they are separate (AIV)"),
    Attribute("cores.clock", "hz", True, "clock that the peak refers to"),
    Attribute("memory.printed", "bytes", True, "capacity as the data sheet prints it"),
    Attribute("memory.capacity", "bytes", True, "capacity in true bytes (stacks are binary: 80 GB is 80 GiB)"),
    Attribute("memory.usable", "bytes", True, "what a program can allocate after driver, ECC and runtime"),
    Attribute("memory.bandwidth", "bytes_per_s", True, "peak bandwidth of the device memory"),
    Attribute("l2.capacity", "bytes", True, "last on-chip cache level shared by all cores"),
    Attribute("l2.bandwidth", "bytes_per_s", True, "read bandwidth of that level"),
    Attribute("package.devices", "count", True, "devices per package"),
    Attribute("power.tdp", "w", True, "power limit per device"),
    Attribute("power.idle", "w", True, "power of an idle device"),
    Attribute("power.limited_at", "ratio", False, "share of the dense peak at which long products draw the limit"),
    Attribute("price.rental", "usd_per_s", False, "published rental price per device"),
)

SYSTEM = (
    Attribute("title", "text", True, "full name for people"),
    Attribute("like", "text", False, "system (name or path) from which everything not given here is taken"),
    Attribute("chip", "text", True, "chip name, or path beside the file"),
    Attribute("aliases", "list", False, "other spellings of the name"),
    Attribute("size.devices", "count", True, "devices of one full system"),
    Attribute("size.devices_per_node", "count", True, "devices under one operating system"),
    Attribute("host.memory_per_node", "bytes", True, "host memory of one node"),
    Attribute("host.memory_bandwidth", "bytes_per_s", False, "peak bandwidth of the host memory of one node"),
    Attribute("host.link", "bytes_per_s", True, "device to host memory, one direction, per device"),
    Attribute("power.system", "w", False, "chosen reading of the power of the full system under load"),
    Attribute("power.pue", "ratio", True, "facility power over IT power"),
    Attribute("price.system", "usd", False, "chosen reading of the purchase price of the full system"),
    Attribute("fabric.cpu_bandwidth", "bytes_per_s", False, "what one host processor can send into the scale-up plane"),
    Attribute("fabric.l2_ports", "count", False, "ports of one L2 switch chip of the scale-up plane"),
    Attribute("fabric.l2_chips", "count", False, "L2 switch chips per sub-plane, where no part counts them"),
    Attribute("fabric.links_per_module", "count", False, "links that one optical module carries"),
    Attribute("fabric.torus_x", "count", False, "places along the first axis of the torus"),
    Attribute("fabric.torus_y", "count", False, "places along the second axis of the torus"),
    Attribute("fabric.torus_z", "count", False, "places along the third axis of the torus"),
)

TIER = (
    Attribute("name", "text", True, "name of the level"),
    Attribute("path", "text", True, "link class, one of " + ", ".join(PATHS)),
    Attribute("topology", "text", True, "one of " + ", ".join(TOPOLOGIES)),
    Attribute("reduction", "flag", False, "the switches can reduce"),
    Attribute("scale_out", "flag", False, "joins several systems"),
    Attribute("devices", "count", True, "devices that one instance joins"),
    Attribute("bandwidth", "bytes_per_s", True, "what one device can send into it, one direction, line rate"),
    Attribute("latency", "s", True, "smallest end-to-end time of a small message"),
    Attribute("oversubscription", "ratio", False, "1 is non-blocking"),
    Attribute("links", "count", False, "links per device"),
)

PART = (
    Attribute("title", "text", True, "what it is"),
    Attribute("group", "text", True, "one of " + ", ".join(PART_GROUPS)),
    Attribute("per", "text", True, "system, node, package, device or another part"),
    Attribute("follows", "text", False, "load that its power follows: one of " + ", ".join(FOLLOWS)),
    Attribute("scale_out_only", "flag", False, "present only when several systems are joined"),
    Attribute("count", "count", True, "how many per unit of `per`"),
    Attribute("idle", "w", False, "power of one when idle"),
    Attribute("max", "w", False, "power of one at full load"),
    Attribute("price", "usd", False, "price of one, where it is not in the price of the system"),
)

PLANE = (
    Attribute("description", "text", True, "what the plane is for"),
    Attribute("bandwidth", "bytes_per_s", True, "per device, one direction"),
    Attribute("latency", "s", False, "small message"),
)
