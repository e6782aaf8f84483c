"""JSON fields: numbers of any kind become plain ones, anything that JSON cannot hold is a defect and not a text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from supertwin.cli.output import write_json


def test_numbers_and_arrays_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    write_json(
        "x", {"a": np.float64(1.5), "b": np.arange(3), "c": (1, float("nan")), "d": Path("x/y"), "e": np.bool_(1)}
    )
    got = json.loads(capsys.readouterr().out)
    assert got == {"schema": "supertwin.x/1", "a": 1.5, "b": [0, 1, 2], "c": [1, None], "d": "x/y", "e": True}


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", 1j])
def test_what_json_has_no_form_for_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        write_json("x", {"a": value})
