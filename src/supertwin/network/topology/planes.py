"""How routes run in a plane: a tree of switches in columns, a mesh of direct links, or a torus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Level:
    """Up links of one level of a tree.

    row: row of a part in `uplink`, -1 when it has no up links here, [parts]; uplink: link id to the part above in each
    column, -1 for none, [rows, columns]. Two parts meet in a column when their up links lead to the same part.
    """

    row: Ids
    uplink: Ids


@dataclass(frozen=True, slots=True)
class Clos:
    """Endpoints below one or more levels of switches (UB, NVSwitch, fat tree). line_rate: of one endpoint, bytes/s.

    reach (of every structure): neighbouring devices that one instance joins, 0 when it joins none to each other.
    """

    plane: str
    line_rate: float
    levels: tuple[Level, ...]
    reach: int = 0


@dataclass(frozen=True, slots=True)
class Mesh:
    """Direct links. link_to_member: link id from a device to each place of its block, -1 for none, [devices, block]."""

    plane: str
    line_rate: float
    link_to_member: Ids
    device_of_part: Ids
    reach: int = 0


@dataclass(frozen=True, slots=True)
class Torus:
    """Devices at places of a torus, first axis fastest.

    sides: places per axis; link_rate: bytes/s of a healthy link; link: link id from a device one step up (0) or down
    (1) an axis, [devices, axes, 2]; first: device number at place 0 of the device's torus, [devices].
    """

    plane: str
    line_rate: float
    link_rate: float
    sides: tuple[int, ...]
    link: Ids
    first: Ids
    device_of_part: Ids
    reach: int = 0


Structure: TypeAlias = Clos | Mesh | Torus
