"""Chips and systems of the user's own, and files that break the rules."""

import contextlib
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supertwin.core.errors import CatalogueError, InputError
from supertwin.machine import chip_toml, load_chip, load_system
from supertwin.machine.source import DATA

LIKE = """
title = "A 910C with twice the memory bandwidth"
like = "ascend-910c-die"
[scale]
"memory.bandwidth" = { value = "2 x", source = "user" }
peak = { value = "150 %", source = "user" }
[power]
tdp = { value = "500 W", source = "user" }
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_like_inherits_scales_and_overrides(tmp_path: Path) -> None:
    base, chip = load_chip("ascend-910c-die"), load_chip(write(tmp_path, "mine.toml", LIKE))
    assert chip.name == "mine"
    assert chip.memory_bytes_per_s == 2 * base.memory_bytes_per_s
    assert chip.peak_flop_per_s == pytest.approx({rate: 1.5 * peak for rate, peak in base.peak_flop_per_s.items()})
    assert chip.tdp_w == 500
    assert chip.relative == "ascend-910c-die"
    assert chip.l2_bytes == base.l2_bytes
    assert chip.cited["memory.bandwidth"].source == "user"
    assert "ascend-910c-die" in chip.cited["memory.bandwidth"].note


def test_measured_form_loads(tmp_path: Path) -> None:
    values = {"peak.fp32": "412.5 GFLOP/s", "memory.bandwidth": "31 GB/s", "cores.matrix": "8 cores"}
    text = chip_toml('A "quoted" CPU \\ 8 cores', "local-cpu", values, "best of 5")
    chip = load_chip(write(tmp_path, "mine.toml", text))
    assert (chip.peak("fp32"), chip.memory_bytes_per_s, chip.matrix_cores) == (412.5e9, 31e9, 8)
    assert chip.title == 'A "quoted" CPU \\ 8 cores'
    assert chip.cited["peak.fp32"].source == "measured-here"
    assert chip.relative == "local-cpu"
    with pytest.raises(InputError, match=r"peak\.fp32"):
        chip_toml("x", "local-cpu", {"peak.fp23": "1 GFLOP/s"}, "note")
    with pytest.raises(InputError, match="expected flop_per_s"):
        chip_toml("x", "local-cpu", {"peak.fp32": "1 GB/s"}, "note")


def test_910d_what_if_is_four_dies() -> None:
    chip = load_chip("ascend-910d")
    assert chip.devices_per_package == 4
    assert chip.peak("bf16") * 4 == pytest.approx(1.43 * load_chip("h100-sxm").peak("bf16"), rel=0.01)


def test_own_system_with_own_chip_and_own_source(tmp_path: Path) -> None:
    source = (
        '[sources.lab]\ntitle = "Our lab"\nwhere = "log"\nkind = "measurement"\ndate = "2026"\nconfidence = "high"\n'
    )
    write(tmp_path, "mine.toml", LIKE.replace('"user"', '"lab"') + source)
    text = (DATA / "systems" / "atlas-a3.toml").read_text(encoding="utf-8")
    path = write(tmp_path, "box.toml", text.replace('chip = "ascend-910c-die"', 'chip = "mine.toml"'))
    system = load_system(f"{path}:32")
    assert system.chip.name == "mine"
    assert system.devices == 32


def test_cycle_of_likes(tmp_path: Path) -> None:
    write(tmp_path, "a.toml", 'title = "a"\nlike = "b.toml"\n')
    write(tmp_path, "b.toml", 'title = "b"\nlike = "a.toml"\n')
    with pytest.raises(CatalogueError, match="cycle: a -> b -> a"):
        load_chip(tmp_path / "a.toml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"500 W"', '"500"', "has no unit"),
        ('"500 W"', '"500 GB"', "expected w"),
        ('tdp = { value = "500 W", source = "user" }', "tdp = 500", "expected { value"),
        (
            '[power]\ntdp = { value = "500 W", source = "user" }',
            '[power]\ntdp = { value = "500 W" }',
            "no source given",
        ),
        (
            '[power]\ntdp = { value = "500 W", source = "user" }',
            '[power]\ntdp = { value = "5 W", source = "wp-a33" }',
            "wp-a3",
        ),
        ("tdp", "tpd", "power.tdp"),
        ("[power]", "[powre]", "powre"),
        ('"memory.bandwidth"', '"memory.bandwith"', "names no value"),
        ('like = "ascend-910c-die"', 'like = "ascend-910c-dei"', "ascend-910c"),
        ('like = "ascend-910c-die"', "", "only a chip with `like`"),
        ("title", "vendor", "unknown value"),
        ("[power]", "relative = 5\n[power]", "relative"),
        ("[power]", "[power", "not valid TOML"),
    ],
)
def test_broken_files_say_what_is_wrong(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in LIKE
    with pytest.raises(InputError) as caught:
        load_chip(write(tmp_path, "mine.toml", LIKE.replace(old, new, 1)))
    assert says in str(caught.value)


def test_missing_required_field(tmp_path: Path) -> None:
    text = (DATA / "chips" / "mi300x.toml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("clock")]
    with pytest.raises(CatalogueError, match=r"mine\.toml: cores\.clock: missing"):
        load_chip(write(tmp_path, "mine.toml", "\n".join(lines)))


def test_assumption_needs_a_reason(tmp_path: Path) -> None:
    text = LIKE.replace('"500 W", source = "user"', '"500 W", source = "user", kind = "assumption"')
    with pytest.raises(CatalogueError, match="needs a note"):
        load_chip(write(tmp_path, "mine.toml", text))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        load_chip(tmp_path / "none.toml")
    with pytest.raises(InputError, match="no file"):
        load_system(f"{tmp_path / 'none.toml'}:8")
    for odd in (tmp_path, "/dev/zero", "./", "/", "", ":", ":8", "a/b:c", "cm384:8:8", "\0", "\ud800", "../cm384"):
        with pytest.raises(InputError):
            load_system(odd)
        with pytest.raises(InputError):
            load_chip(odd)


def test_path_with_a_colon(tmp_path: Path) -> None:
    folder = tmp_path / "a:b"
    folder.mkdir()
    write(folder, "mine.toml", (DATA / "systems" / "cm384.toml").read_text(encoding="utf-8"))
    assert load_system(folder / "mine.toml").devices == 768
    assert load_system(f"{folder}/mine.toml:64").devices == 64


@given(st.text(max_size=30))
def test_any_name_is_known_or_an_input_error(name: str) -> None:
    for load in (load_chip, load_system):
        with contextlib.suppress(InputError):
            assert load(name).name


LINES = (DATA / "systems" / "cm384.toml").read_text(encoding="utf-8").splitlines()
WORDS = st.sampled_from(
    ['"', "{", "}", "[", "]", "=", "0", "-1", "x", "GB", " ", "#", "system", "nan", "\x00", "é", "true", "[[tiers]]"]
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=st.integers(0, len(LINES) - 1), start=st.floats(0, 1), word=WORDS, cut=st.integers(0, 12))
def test_mutated_systems_load_or_fail_cleanly(tmp_path: Path, line: int, start: float, word: str, cut: int) -> None:
    text = LINES[line]
    at = int(start * len(text))
    mutated = [*LINES[:line], text[:at] + word + text[at + cut :], *LINES[line + 1 :]]
    path = tmp_path / "mutated.toml"
    path.write_text("\n".join(mutated), encoding="utf-8")
    try:
        load_system(path)
    except InputError as error:
        assert len(str(error)) > 10  # noqa: PT017


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.dictionaries(
        st.sampled_from(["title", "chip", "size", "tiers", "parts", "power", "host", "planes", "price", "other"]),
        st.recursive(
            st.one_of(st.booleans(), st.integers(-5, 5), st.sampled_from(["", "cm2", "5 W", "8 devices", "node"])),
            lambda inner: st.one_of(
                st.lists(inner, max_size=2),
                st.dictionaries(
                    st.sampled_from(["value", "source", "count", "per", "devices", "name"]), inner, max_size=3
                ),
            ),
            max_leaves=6,
        ),
    )
)
def test_structures_of_any_shape_fail_cleanly(tmp_path: Path, table: dict[str, object]) -> None:
    base = tomllib.loads("\n".join(LINES))
    path = tmp_path / "shape.toml"
    path.write_text(_toml({**base, **table}), encoding="utf-8")
    try:
        load_system(path)
    except InputError as error:
        assert len(str(error)) > 10  # noqa: PT017


def _toml(table: dict[str, object]) -> str:
    return "\n".join(f"{key} = {_value(value)}" for key, value in table.items())


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {_value(inner)}' for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(inner) for inner in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return '"' + value.replace('"', '\\"') + '"' if isinstance(value, str) else str(value)
