"""The fabric as built from the catalogue by rules.

build     parts and links of a system            routes     paths between two parts, and what they give
patterns  who sends to whom                      symmetry   flows of a pattern in classes of equals
capacity  maximum flow between sets of devices   checks     named consistency checks      export   networkx, GraphML
"""

from supertwin.network.topology.build import build
from supertwin.network.topology.capacity import bisection_bytes_per_s, most_bytes_per_s
from supertwin.network.topology.checks import Check, checks
from supertwin.network.topology.export import to_networkx, write_graphml
from supertwin.network.topology.graph import Graph
from supertwin.network.topology.patterns import Pattern
from supertwin.network.topology.routes import Connection, Route, connect, routes
from supertwin.network.topology.symmetry import classes, joint_classes

__all__ = [
    "Check",
    "Connection",
    "Graph",
    "Pattern",
    "Route",
    "bisection_bytes_per_s",
    "build",
    "checks",
    "classes",
    "connect",
    "joint_classes",
    "most_bytes_per_s",
    "routes",
    "to_networkx",
    "write_graphml",
]
