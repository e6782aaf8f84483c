"""Deployments that the tests share: the CM384 paper's (arXiv 2506.12708 v2, section 5.1) and a small one."""

from __future__ import annotations

from functools import cache

from supertwin.inference.case import Deployment
from supertwin.inference.deploy import Prepared, Service, prepare
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.scenarios.serving import cm384_service


@cache
def small(system: str = "dgx-h100:8") -> Service:
    """Llama 70B on one node: two instances of tp 4."""
    four = Deployment(tp=4)
    return Service(load_model("llama-3.1-70b"), load_system(system), four, four, 1, 1, 2048.0, 256.0)


@cache
def priced(service_name: str = "small") -> Prepared:
    """One of them with its step times."""
    return prepare(small() if service_name == "small" else cm384_service())
