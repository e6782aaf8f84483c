"""Numbers that a deployment adds to those of its steps: (name, value with unit, source, layer)."""

from __future__ import annotations

from supertwin.inference.deploy.evaluate import Prepared
from supertwin.inference.deploy.loading import BUCKET_BYTES_PER_S, STORE_SHARE
from supertwin.inference.deploy.pool import POOL_SHARE
from supertwin.inference.deploy.prefix import BLOCK_TOKENS
from supertwin.inference.queueing import P99_OVER_MEAN

Row = tuple[str, str, str, str]


def sources(prepared: Prepared) -> tuple[Row, ...]:
    """Links, caches, stores and distributions that the service stands on."""
    service, sent = prepared.service, prepared.handover
    rows: list[Row] = [
        ("object store", f"{BUCKET_BYTES_PER_S / 1e9:g} GB/s", "arXiv 2506.12708v2 table 2", "spec"),
        ("share of it that a download reaches", f"{STORE_SHARE:g}", "network/transfer.py", "assumption"),
        ("waiting before prefill", "exponential", "docs/deployments.md", "assumption"),
    ]  # fmt: skip
    if sent is None:
        rows.append(("p99 of TPOT over its mean", f"{P99_OVER_MEAN:g}", "docs/deployments.md", "assumption"))
        return tuple(rows)
    rows.append(("residents of a decode instance", "Poisson", "docs/deployments.md", "assumption"))
    link = f"{sent.link_bytes_per_s / 1e9:.4g} GB/s of {sent.line_bytes_per_s / 1e9:.4g}"
    blocks = f"blocks of {BLOCK_TOKENS:g} tokens"
    rows.append((f"{sent.plane} link", f"{link}, {blocks}", "links of the chip, else the tier", "calibration"))
    if service.hit_rate and service.cache != "hbm":
        rows.append(("host memory for the pool", f"{POOL_SHARE:g}", "rest holds weights and the system", "assumption"))
    return tuple(rows)
