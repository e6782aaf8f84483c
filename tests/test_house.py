"""Rules of the house that hold for every file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import supertwin
from supertwin.cli.app import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "supertwin"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 350
HOSTS = re.compile(r"https?://|--(extra-)?index-url|--find-links|--trusted-host")
HEAVY = {"scipy", "polars", "matplotlib", "torch", "pandas"}
WITH_TERMINAL = {"typer", "rich"}
TERMINAL_LAYERS = {"cli", "report"}

FLAGS = {
    "show": "",
    "compare": "",
    "claims": "--only",
    "train": "--on --tp --pp --ep --etp --cp --dp --vpp --micro-batch --global-batch --seq-len --precision "
    "--recompute --recompute-layers --sharding --schedule --sequence-parallel --task --tokens "
    "--co2-per-kwh --scaling --timeline --trace --straggler --framework --order --stages --balance "
    "--shard-size --reshard --flat-parameters --prefetch --bucket-mb --gather-dtype --reduce-dtype "
    "--gradient-dtype --moment-dtype --master-dtype --overlap-dp --overlap-tp --overlap-ep --cp-method "
    "--ulysses-size --cp-balanced --packed --sample-len --sample-cv --force-balanced --skew --routing-cv "
    "--capacity-factor --pad-experts --redundant-experts --routing-nodes --dispatch-dtype "
    "--dispatcher --fused-experts --launch --attention-dtype "
    "--recompute-modules --offload --offload-optimizer --offload-update --lora-rank "
    "--lora-modules --offload-modules --narrow-activation --states-reused --logprob-passes",
    "infer": "--on --phase --tp --pp --ep --dp --cp --cp-method --cp-balanced --prompt-cv --dp-attention "
    "--dense-tp --output-tp --head-tp --afd "
    "--afd-unit --afd-microbatches --batch "
    "--input-len --prefix-len --chunk-tokens --kv-len --shared-prefix --cascade "
    "--weight-dtype --activation-dtype --kv-dtype --mtp-tokens "
    "--mtp-acceptance --draft --draft-topk --verify-tokens "
    "--sampling --microbatch-overlap --expert-balance --redundant-experts --exchange --kv-pool "
    "--weight-prefetch --super-kernel --framework --host-cores --roofline --trace "
    "--output-len --rate --concurrency --prefill-devices --decode-devices --prefill-instance --decode-instance "
    "--prefill-tp --hit-rate --prefixes --zipf --cache --plane --kv-transfer --first-token --slo-ttft-ms --slo-tpot-ms "
    "--slo-stat",
    "fabric": "--collective --bytes --devices --stride --algorithm --library --fault --pair --matrix --level --plane "
    "--png --svg --graphml --trace",
    "validate": "--training --inference --kernels --collectives --write --processes --operators --sample",
    "calibrate": "--device --quick --from --family --out",
}


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def imports(nodes: Iterator[ast.AST]) -> set[str]:
    """Top-level packages that import statements among the nodes name."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def run_at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements that run when a module is imported: nothing inside functions or under TYPE_CHECKING."""
    stack: list[ast.AST] = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            stack.extend(node.orelse)
            continue
        yield node
        stack.extend(ast.iter_child_nodes(node))


def test_flags_are_frozen() -> None:
    """Scripts outside call these; a flag may be added here, never renamed or removed."""
    flags = {command.name: " ".join(option.flag for option in command.options) for command in COMMANDS}
    assert flags == FLAGS


def test_every_command_takes_json_and_explain() -> None:
    for command in COMMANDS:
        assert {"--json", "--explain"} <= {option.flag for option in command.all_options}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_is_documented_short_and_light(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree) or not tree.body, "needs a docstring"
    assert text.count("\n") <= MOST_LINES, f"more than {MOST_LINES} lines"
    light = imports(run_at_import(tree))
    assert not light & HEAVY, "heavy import at the top level"
    assert not imports(ast.walk(tree)) & WITH_TERMINAL or layer(path) in TERMINAL_LAYERS, (
        "terminal library below report"
    )


def test_no_file_prints_below_the_command_line() -> None:
    for path in MODULES:
        if layer(path) not in TERMINAL_LAYERS:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
                assert called != "print", f"{path}:{getattr(node, 'lineno', 0)} prints"


def test_imports_run_downwards_only() -> None:
    from importlinter.cli import lint_imports

    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_lock_is_pinned_by_hash_and_names_no_host() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not HOSTS.search(text)
    requirements = re.split(r"\n(?=\S)", text.strip())
    assert len(requirements) > 20
    for requirement in requirements:
        assert re.match(r"[a-z0-9_.-]+==\S+", requirement), requirement
        assert "--hash=sha256:" in requirement


def test_version_is_stated_once() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", supertwin.__version__)
