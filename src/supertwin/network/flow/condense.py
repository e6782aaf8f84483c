"""From listed flows to classes: the coarsest grouping of flows and links that no rate can tell apart.

Colour refinement on the weighted graph of flows and links (Cardon and Crochemore, Theoretical Computer Science 19,
1982): flows start coloured by what they carry, links by their capacity; a flow is recoloured by the colours and shares
of its links, a link by those of its flows, until nothing splits. In the result all flows of a class have the same max-min
rate, because the filling algorithm never sees a difference between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.network.flow.pattern import Floats, Ints

Hashes = npt.NDArray[np.uint64]
DIGITS = 10  # shares and capacities equal to so many significant digits are equal


@dataclass(frozen=True, slots=True)
class Incidence:
    """Flow flow[i] puts share[i] of its rate on link link[i]; each (flow, link) once."""

    flow: Ints
    link: Ints
    share: Floats


@dataclass(frozen=True, slots=True)
class Partition:
    """Class of every flow and of every link; classes are numbered from 0."""

    flow: Ints
    link: Ints


def condense(given: Incidence, flow_key: npt.ArrayLike, link_key: npt.ArrayLike) -> Partition:
    """The coarsest stable partition that keeps flows of different flow_key and links of different link_key apart."""
    flows, links = _dense(np.asarray(flow_key)), _dense(np.asarray(link_key))
    share = _mix(_rounded(given.share).view(np.uint64))
    by_link = np.argsort(given.link, kind="stable")
    by_flow = np.argsort(given.flow, kind="stable")
    while True:
        before = (flows.max(initial=-1), links.max(initial=-1))
        links = _refine(links, given.link[by_link], _mix(_spread(flows)[given.flow] ^ share)[by_link])
        flows = _refine(flows, given.flow[by_flow], _mix(_spread(links)[given.link] ^ share)[by_flow])
        if (flows.max(initial=-1), links.max(initial=-1)) == before:
            return Partition(flows, links)


def usage(given: Incidence, found: Partition) -> Floats:
    """Load of one link per unit of rate of one flow, [flow classes, link classes]."""
    rows, columns = int(found.flow.max(initial=-1)) + 1, int(found.link.max(initial=-1)) + 1
    table = np.bincount(
        found.flow[given.flow] * columns + found.link[given.link], given.share, rows * columns
    ).reshape(rows, columns)
    shared: Floats = table / np.maximum(1, np.bincount(found.link, minlength=columns))
    return shared


def _refine(colour: Ints, owner: Ints, signature: Hashes) -> Ints:
    """Split colours by the multiset of signatures of their owners' entries; owner is sorted."""
    total = np.zeros(colour.size, np.uint64)
    if owner.size:
        starts = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
        total[owner[starts]] = np.add.reduceat(signature, starts)
    return _dense(_mix(_spread(colour) ^ _mix(total)))


def _dense(values: npt.NDArray[np.generic]) -> Ints:
    """Equal values as equal numbers from 0."""
    axis = 0 if values.ndim > 1 else None
    number: Ints = np.unique(values, axis=axis, return_inverse=True)[1].reshape(len(values)).astype(np.int64)
    return number


def _spread(colour: Ints) -> Hashes:
    return _mix(colour.astype(np.uint64) + np.uint64(1))


def _mix(value: Hashes) -> Hashes:
    """The finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    mixed = value + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _rounded(values: Floats) -> Floats:
    """To DIGITS significant digits."""
    size = np.floor(np.log10(np.where(values > 0, values, 1.0)))
    scale = 10.0 ** (DIGITS - 1 - size)
    out: Floats = np.rint(values * scale) / scale
    return out
