"""Wall time of the program with start-up, each call a new process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

CALLS = {
    "help": ("--help",),
    "show": ("show", "cm384", "--json"),
    "train": ("train", "llama3.1-70b", "--on", "dgx-h100:512", "--tp", "8", "--pp", "4", "--json"),
    "infer": ("infer", "deepseek-r1", "--on", "cm384:64", "--weight-dtype", "int8", "--json"),
    "claims": ("claims", "--json"),
}


@pytest.mark.parametrize("name", CALLS)
def test_program(benchmark: Any, name: str) -> None:
    command = [sys.executable, "-m", "supertwin", *CALLS[name]]
    benchmark.pedantic(subprocess.run, (command,), {"check": True, "capture_output": True}, rounds=5, warmup_rounds=1)


def test_validate_everything(benchmark: Any) -> None:
    """All shipped rows on two processes."""
    command = [sys.executable, "-m", "supertwin", "validate", "--json"]
    benchmark.pedantic(subprocess.run, (command,), {"check": True, "capture_output": True}, rounds=1)
