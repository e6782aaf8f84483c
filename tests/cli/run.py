"""Calling the program inside the test process."""

from __future__ import annotations

import contextlib
import io
import math
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
    return _processor_s("-m", "supertwin", *arguments)


def starts_of_numpy(most: float, *arguments: str) -> float:
    """Processor time of the program over that of a bare start of numpy, which a slow or busy machine stretches alike:
    the least of each in up to six turns, until the ratio is below `most`."""
    program = bare = math.inf
    for _ in range(6):
        bare = min(bare, _processor_s("-c", "import numpy"))
        program = min(program, processor_s(*arguments))
        if program < most * bare:
            break
    return program / bare


def _processor_s(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
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
