"""What needs an optional package says which extra to install; calibration refuses folders that it cannot use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from supertwin.core.errors import InputError, MissingExtra
from supertwin.report.accuracy import draw, write_accuracy
from supertwin.validation.outcome import Report, Score
from tests.cli.run import supertwin

SCORE = Score("x", "kernels", "kernel_time_s", 1.0, 1.1, 0.9, 1.3, chip="h100-sxm", model="gemm")


def test_a_missing_package_is_exit_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    (tmp_path / "gemm.csv.gz").write_bytes(b"")
    result = supertwin("calibrate", "--from", str(tmp_path), "--out", str(tmp_path / "out"))
    assert result.code == 4
    assert result.err.splitlines()[-1] == "supertwin: this needs polars: pip install 'supertwin[calibrate]'"


def test_the_picture_needs_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"supertwin\[plot\]"):
        draw(Report((SCORE,), ()), tmp_path / "accuracy.png")


def test_the_accuracy_page_has_its_picture(tmp_path: Path) -> None:
    page, picture = write_accuracy(Report((SCORE,), (), {"kernels": 1}), tmp_path / "docs")
    assert "| kernel_time_s | 1 | 10.0 |" in page.read_text(encoding="utf-8")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.name in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(("inside", "sentence"), [("none", "is not a folder"), ("", "holds no operator tables")])
def test_calibrate_refuses_a_folder_without_tables(tmp_path: Path, inside: str, sentence: str) -> None:
    result = supertwin("calibrate", "--from", str(tmp_path / inside), "--out", str(tmp_path / "out"))
    assert result.code == 2
    assert sentence in result.err.splitlines()[-1]


def test_write_refuses_a_place_that_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="cannot write to"):
        write_accuracy(Report((SCORE,), ()), path)
