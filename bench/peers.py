"""Side by side: how many times faster a benchmark's median is than a peer's published or measured time."""

from __future__ import annotations

from typing import Any


def report(benchmark: Any, peers: dict[str, float], capsys: Any) -> None:
    """Print how many times faster than each peer the median is, and keep it with the result. peers: seconds by name."""
    if benchmark.stats is None:  # run as a test, without timing
        return
    median = benchmark.stats.stats.median
    for name, seconds in peers.items():
        benchmark.extra_info[name] = seconds / median
        line = f"{1e3 * median:.2f} ms, {seconds / median:,.0f} x faster than {name} ({seconds:g} s)"
        say(capsys, f"{benchmark.name}: {line}")


def say(capsys: Any, line: str) -> None:
    """Print past the capture of pytest."""
    with capsys.disabled():
        print(f"\n  {line}", end="")
