"""Point-to-point transfers: one block from one device or host memory to another, by engine and path.

    time = (fixed^p + (S / rate)^p)^(1/p)

p = 1: the fixed cost of a block adds to its transfer; large p: the two overlap and the larger one counts. fixed, rate
and p are fitted per engine, scope (intra: one node, inter: two nodes), ends (device or host) and direction. Blocks of
at most FIRST_BLOCK_BYTES may take another path of the engine, with its own factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from supertwin.core.errors import UnknownName
from supertwin.machine.chip import Chip
from supertwin.machine.fitted import Parameters, named_folder
from supertwin.machine.system import System
from supertwin.network.collective import CollectiveTime, Real
from supertwin.network.links import load_links_by_name

FIRST_BLOCK_BYTES = 16384.0
ENDS = ("device", "host")
DEFAULT_ENGINE = {"nvidia": "copy", "huawei": "ub", "amd": "copy"}
# assumption: without a measurement an engine reaches 85 % of the line rate, in the middle of the measured 0.76-0.97;
# reads over UB reach 164 to 167 of 196 GB/s (arXiv 2506.12708 v2, table 1)
UNMEASURED_SHARE = 0.85
# assumption: first byte of a copy where the system has no tier, the order of a PCIe round trip with its doorbell
UNMEASURED_FIXED_S = 2e-6


@dataclass(frozen=True, slots=True)
class Path:
    """Which ends, which way, which engine. local issues the transfer: write sends, read fetches."""

    engine: str = "default"
    inter_node: bool = False
    local: str = "device"
    remote: str = "device"
    write: bool = False

    @property
    def name(self) -> str:
        """As in the calibration file, without the engine."""
        scope = "inter" if self.inter_node else "intra"
        return f"{scope}/{self.local}-{self.remote}/{'write' if self.write else 'read'}"


def transfer_time(system: System, message_bytes: Real, path: Path) -> CollectiveTime:
    """Time of one block over a path. An engine without a measurement of the path gets the catalogue's line rate.

    Raises UnknownName for an engine that is not known for the chip.
    """
    for end in (path.local, path.remote):
        if end not in ENDS:
            raise UnknownName("end of a transfer", end, ENDS)
    found = transfer_constants(system.chip, path) or _from_catalogue(system, path)
    time = evaluate_transfer(found, message_bytes)
    bandwidth = message_bytes / found["bytes_per_s"]
    return CollectiveTime(time, time - bandwidth, bandwidth, path.engine, "host" if "host" in path.name else "p2p")


def evaluate_transfer(found: Mapping[str, float], message_bytes: Real) -> Real:
    """The formula of the module."""
    p = found.get("sharpness", 1.0)
    time: Real = (found["fixed_s"] ** p + (message_bytes / found["bytes_per_s"]) ** p) ** (1.0 / p)
    first = found.get("first_factor", 1.0)
    if first == 1.0:
        return time
    factor: Real = np.where(np.asarray(message_bytes) <= FIRST_BLOCK_BYTES, first, 1.0)
    scaled: Real = time * factor
    return scaled if np.ndim(message_bytes) else float(scaled)


def transfer_constants(chip: Chip, path: Path) -> Parameters | None:
    """Fitted constants of a path; None when the engine is known but this path of it was not measured."""
    engine = DEFAULT_ENGINE.get(chip.vendor, "copy") if path.engine == "default" else path.engine
    return _constants(chip.name, chip.relative, engine, path.name, (path.engine == "default", named_folder()))


@lru_cache(maxsize=1024)
def _constants(chip: str, relative: str, engine: str, name: str, given: tuple[bool, str]) -> Parameters | None:
    links = load_links_by_name(chip, relative)
    default, _folder = given
    if not default and engine not in (legal := links.names("transfer", 0)):
        raise UnknownName("transfer engine", engine, legal)
    scope, ends, way = name.split("/")
    other = {"read": "write", "write": "read"}[way]
    for candidate in (f"{scope}/{ends}/{way}", f"{scope}/{ends}/{other}"):
        found = links.group(f"transfer/{engine}/{candidate}")
        if found is not None:
            return found
    return None


def _from_catalogue(system: System, path: Path) -> Parameters:
    """The innermost tier that leaves the package, or the first one that joins nodes; host memory by the host link."""
    inside = [t for t in system.tiers if t.path != "d2d" and t.devices <= system.devices_per_node]
    across = [t for t in system.tiers if t.devices > system.devices_per_node]
    tiers = (across or inside) if path.inter_node else (inside or across)
    rate = tiers[0].bandwidth_bytes_per_s if tiers else system.host_link_bytes_per_s
    if "host" in (path.local, path.remote) and system.host_link_bytes_per_s:
        rate = min(rate, system.host_link_bytes_per_s) if path.inter_node else system.host_link_bytes_per_s
    fixed = tiers[0].latency_s if tiers else UNMEASURED_FIXED_S
    return {"fixed_s": fixed, "bytes_per_s": rate * UNMEASURED_SHARE, "sharpness": 1.0}
