"""`calibrate --from` and `validate --operators`: a known machine is found again, no row is fitted and judged."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("polars")

from supertwin.calibration.attention_fit import load_rows
from supertwin.calibration.experts_fit import expert_rows
from supertwin.calibration.folder import FAMILIES, fit_folder
from supertwin.calibration.gemm_fit import held_out_masks
from supertwin.calibration.operator_tables import FORMS, JUDGED_TABLES
from supertwin.calibration.tables import gemm_rows
from supertwin.calibration.unseen import GROUPS, judge
from supertwin.calibration.unseen_rows import READERS
from supertwin.calibration.vector_fit import load_rows as load_vectors
from supertwin.cli import calibrate
from supertwin.core.errors import InputError, SupertwinError, TableError, UnknownName
from supertwin.machine.fitted import ENVIRONMENT
from tests.calibration.made_tables import BANDWIDTH, CHIP, FIXED_S, MEMORY, roofline_s, write_tables
from tests.cli.run import assert_refused, supertwin

FITTED = ("gemm", "experts", "attention", "vector", "launch")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def fitted(tables: Path) -> tuple[Path, Any]:
    out = tables / "out"
    return out, fit_folder(tables, out, FITTED)


def parameters(out: Path, family: str) -> dict[str, dict[str, float]]:
    content = json.loads((out / CHIP.name / f"{family}.json").read_text(encoding="utf-8"))
    found: dict[str, dict[str, float]] = content["parameters"]
    return found


def test_a_known_machine_is_found_again(fitted: tuple[Path, Any]) -> None:
    out, _ = fitted
    gemm = parameters(out, "gemm")["bf16"]
    decode = parameters(out, "attention")["decode/gqa/128/bf16/bf16"]
    experts = parameters(out, "experts")["bf16"]
    assert gemm["memory"] == pytest.approx(MEMORY, rel=0.05)
    assert gemm["fixed_s"] == pytest.approx(FIXED_S["gemm"], rel=0.1)
    assert experts["memory"] == pytest.approx(MEMORY, rel=0.05)
    assert experts["fixed_s"] == pytest.approx(FIXED_S["moe"], rel=0.1)
    assert decode["memory"] == pytest.approx(MEMORY, rel=0.05)
    for op in ("norm", "activation"):
        found = parameters(out, "vector")[op]
        assert found["memory"] == pytest.approx(MEMORY, rel=0.05)
        assert found["start_s"] == pytest.approx(FIXED_S["norm"], rel=0.1)
    assert parameters(out, "launch")["eager"]["issue_s"] == pytest.approx(5e-6, rel=0.05)


def test_held_out_errors_are_those_of_the_timing_noise(fitted: tuple[Path, Any]) -> None:
    _, result = fitted
    kinds = {row["kind"]: row for row in result.held_out if row["chip"] == CHIP.name and row["n"]}
    assert {"gemm", "moe", "attention prefill", "attention decode", "norm", "elementwise"} <= set(kinds)
    for row in kinds.values():
        assert row["median_ape"] < 0.03
        assert row["p90_ape"] < 0.08
        assert 0.1 < row["n_held_out"] / (row["n_held_out"] + row["n_fit"]) < 0.5
    assert set(result.overall) == {"gemm", "attention", "moe", "norm", "elementwise"}
    assert {row["kind"] for row in result.held_out if not row["n"]} >= {"launch"}


def test_the_engine_uses_the_new_files(fitted: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from supertwin.cost.engine import CostEngine
    from supertwin.workload.operators import Attention, Gemm

    out, result = fitted
    assert result.next[0] == f"export {ENVIRONMENT}={out}"
    monkeypatch.setenv(ENVIRONMENT, str(out))
    stream, decode = CostEngine(CHIP).price([
        Gemm(part="g", m=4.0, n=10240.0, k=8192.0),
        Attention(
            part="a", batch=40.0, q_len=1.0, kv_len=12000.0, heads=32, kv_heads=8, qk_head_dim=128, v_head_dim=128,
            phase="decode", dtype="bf16", kv_dtype="bf16",
        ),
    ])  # fmt: skip
    assert float(stream.time_s) == pytest.approx(roofline_s("gemm", 0.0, 2.0 * 10240 * 8192), rel=0.06)
    assert float(decode.time_s) == pytest.approx(roofline_s("attention", 0.0, 2.0 * 40 * 12000 * 8 * 256), rel=0.06)
    assert float(stream.bytes) / float(stream.time_s) < BANDWIDTH


def test_no_shape_is_fitted_and_judged(tables: Path) -> None:
    """Not even in another framework."""
    rows = gemm_rows(tables)
    sides: list[tuple[str, np.ndarray, np.ndarray]] = []
    for part, held in zip(rows, held_out_masks(rows), strict=True):
        sides.append(("gemm", np.stack([np.asarray(getattr(part.gemm, n)) for n in "mnk"], axis=1), held))
    for experts in expert_rows(tables):
        names = ("tokens", "experts", "hidden", "inter")
        sides.append(("moe", np.stack([np.asarray(getattr(experts.moe, n)) for n in names], axis=1), experts.held))
    for attention in load_rows(tables, CHIP.name):
        s = attention.shape
        columns = np.stack([s.batch, s.q_len, s.kv_len, s.heads, s.kv_heads], axis=1)
        sides.append((attention.variant.name, columns, attention.test))
    for vectors in load_vectors(tables, CHIP.name):
        sides.append((vectors.op, np.stack([vectors.work.rows, vectors.work.bytes], axis=1), vectors.test))
    assert len(sides) >= 9
    for kind in {name for name, _, _ in sides}:
        fit, judged = (
            {tuple(row) for name, shapes, held in sides if name == kind for row in shapes[held == side]}
            for side in (False, True)
        )
        assert fit
        assert judged
        assert not fit & judged


def test_the_split_and_the_sample_are_the_same_every_time(tables: Path) -> None:
    first, again = (judge(tables, ("gemm", "attention"), sample=15) for _ in range(2))
    assert [len(j.measured_s) for j in first] == [15, 15, 15]
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.measured_s, other.measured_s)
        assert np.array_equal(one.predicted_s, other.predicted_s)
    everything = judge(tables, ("gemm",))[0]
    assert set(first[0].measured_s) <= set(everything.measured_s)
    assert len(everything.measured_s) == everything.n_held_out


def test_validate_operators(fitted: tuple[Path, Any], tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(fitted[0]))
    result = supertwin("validate", "--operators", str(tables), "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["schema"] == "supertwin.validate/1"
    rows = {row["kind"]: row for row in found["operators"]}
    assert rows["gemm"]["median_ape"] < 0.03
    assert rows["gemm"]["chip"] == CHIP.name
    assert (
        found["operators_overall"]["attention"]["n"] == rows["attention prefill"]["n"] + rows["attention decode"]["n"]
    )
    text = supertwin("validate", "--operators", str(tables), "--sample", "5")
    assert "attention decode" in text.out
    assert "met" in text.out


def test_calibrate_from_prints_the_table_and_how_to_use_it(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    result = supertwin("calibrate", "--from", str(tables), "--family", "vector,launch", "--out", str(out))
    assert result.code == 0, result.err
    assert "elementwise" in result.out
    assert f"export SUPERTWIN_CALIBRATION={out}" in result.out
    assert "fit vector" in result.err
    assert sorted(path.name for path in (out / CHIP.name).iterdir()) == ["launch.json", "vector.json"]


def broken(tables: Path, folder: Path, name: str, column: str, value: str | None) -> Path:
    """A copy of one table with a column left out (None), or one of its cells replaced."""
    with gzip.open(tables / f"{name}.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if value is not None:
        rows[3][column] = value
    names = [c for c in rows[0] if value is not None or c != column]
    with gzip.open(folder / f"{name}.csv.gz", "wt", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("us", None, "lacks the columns us"),
        ("k", None, "lacks the columns k"),
        ("n", "many", "expected numbers"),
        ("us", "0", "expected numbers above 0"),
        ("us", "", "empty cells"),
        ("chip", "h1000", "unknown chip 'h1000'"),
        ("dtype", "fp3", "dtype 'fp3' is not one of"),
    ],
)
def test_broken_tables_are_one_sentence(
    tables: Path, tmp_path: Path, column: str, value: str | None, sentence: str
) -> None:
    folder = broken(tables, tmp_path, "gemm", column, value)
    with pytest.raises(InputError, match=sentence):
        fit_folder(folder, tmp_path / "out", ("gemm",))
    with pytest.raises(InputError, match=sentence):
        judge(folder)


def test_missing_tables_and_wrong_words_are_one_sentence(tables: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TableError, match=r"lacks comm\.csv\.gz, ep_all_to_all\.csv\.gz; --family gemm,experts,attention"
    ):
        fit_folder(tables, tmp_path / "out")
    with pytest.raises(UnknownName, match="unknown family 'gems'"):
        fit_folder(tables, tmp_path / "out", ("gems",))
    assert not (tmp_path / "out").exists()
    (tmp_path / "gemm.csv.gz").write_bytes(b"\x1f\x8bnot a table")
    with pytest.raises(SupertwinError, match="cannot be read as a table"):
        judge(tmp_path)
    for arguments in (
        ("calibrate", "--from", str(tables), "--family", "gems"),
        ("calibrate", "--from", str(tables), "--quick"),
        ("calibrate", "--device", "cuda"),
        ("validate", "--sample", "5"),
        ("validate", "--operators", str(tables / "nowhere")),
    ):
        assert_refused(supertwin(*arguments))


def test_names_agree() -> None:
    assert calibrate._FAMILIES == FAMILIES
    assert {name for names in JUDGED_TABLES.values() for name in names} == set(FORMS)
    assert set(READERS) <= set(JUDGED_TABLES)
    assert set(FAMILIES) <= set(JUDGED_TABLES)
    kinds = [kind for kinds in GROUPS.values() for kind in kinds]
    assert len(kinds) == len(set(kinds))
