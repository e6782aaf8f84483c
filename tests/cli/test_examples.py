"""Commands and programs of README, docs and --help run as they are printed, and options that pages name exist."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from supertwin.cli.app import COMMANDS
from tests.cli.run import supertwin
from tests.machine.test_docs import EXAMPLES

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "src" / "supertwin" / "data"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

APART = re.compile(r"calibrate|validate( --write \S+)?$|.*(measurements/operators|<out>| \| )")
"""Not run here: fits, and runs over all rows, which take long and have tests of their own; tables that are not shipped;
the list of commands."""


def printed(text: str) -> Iterator[str]:
    """Commands in the code blocks of a page, without what stands behind them (two blanks and more) as a remark."""
    joined = re.sub(r" *\\\n +", " ", text)
    for line in re.findall(r"^ {4}(?:\$ )?supertwin (.+)$", joined, re.MULTILINE):
        yield re.split(r" {2,}", line)[0]


def programs(text: str) -> Iterator[str]:
    """Code blocks of a page that begin with an import."""
    for block in re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, re.MULTILINE):
        if block.lstrip().startswith("from supertwin"):
            yield textwrap.dedent(block)


SHOWN = sorted({command for page in PAGES for command in printed(page.read_text(encoding="utf-8"))})
HELPED = [e.removeprefix("supertwin ") for command in COMMANDS for e in command.examples if e.startswith("supertwin ")]
RUN = [command for command in dict.fromkeys([*SHOWN, *HELPED]) if not APART.match(command)]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the examples take for the user's own."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "my-system.toml").write_text(EXAMPLES["my-server.toml"], encoding="utf-8")
    (folder / "my-model").mkdir()
    (folder / "my-model" / "config.json").write_bytes((DATA / "models" / "llama-3.1-8b.json").read_bytes())
    for name, table in (("my-kernels", "kernels"), ("my-collectives", "collectives"), ("runs", "training")):
        lines = (DATA / "measurements" / f"{table}.csv").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{name}.csv").write_text("".join(lines[:4]), encoding="utf-8")
    return folder


def test_there_are_examples() -> None:
    assert len(SHOWN) > 10
    assert sum(len(list(programs(page.read_text(encoding="utf-8")))) for page in PAGES) >= 3
    assert {command.split()[0] for command in RUN} == {command.name for command in COMMANDS} - {"calibrate"}


@pytest.mark.parametrize("command", RUN)
def test_commands_run_as_printed(command: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    result = supertwin(*shlex.split(command))
    assert result.code == 0, result.err
    assert result.out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_programs_run_as_printed(page: Path) -> None:
    for program in programs(page.read_text(encoding="utf-8")):
        exec(compile(program, page.name, "exec"), {})


def test_figures_of_the_models_page() -> None:
    """`count.total, ...        # 671.0e9, ...`: what is printed behind an expression is what it gives."""
    (program,) = programs((ROOT / "docs" / "models.md").read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    exec(program, names)
    expression, shown = program.strip().splitlines()[-1].split("#")
    found = eval(expression, names)
    assert [f"{value / 1e9:.1f}e9" for value in found] == shown.strip().split(", ")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_named_with_a_command_exist(page: Path) -> None:
    """Commands within a sentence: `supertwin infer ... --explain`."""
    known = {name for c in COMMANDS for o in c.all_options for name in (o.flag, f"--no-{o.flag.removeprefix('--')}")}
    for code in re.findall(r"`(supertwin [^`\n]+)`", page.read_text(encoding="utf-8")):
        assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code)) <= known | {"--help"}, code
