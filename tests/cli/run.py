"""Calling the program inside the test process."""

from __future__ import annotations

import contextlib
import io
import resource
import subprocess
import sys
from dataclasses import dataclass

from supertwin.cli.main import main


@dataclass(frozen=True)
class Result:
    """What one call printed and returned."""

    code: int
    out: str
    err: str


def supertwin(*arguments: str) -> Result:
    """Run the program with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return Result(code, out.getvalue(), err.getvalue())


def processor_s(*arguments: str) -> float:
    """Processor time of the program in a process of its own, start-up included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "supertwin", *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def assert_refused(result: Result, code: int = 2) -> None:
    """Exit code, nothing on stdout, exactly one sentence on stderr and no traceback."""
    assert result.code == code, result
    assert result.out == "", result
    assert "Traceback" not in result.err
    assert "internal error" not in result.err, result.err
    assert result.err.startswith("supertwin: "), result.err
    assert result.err.count("\n") == 1, result.err
