"""`supertwin fabric SYSTEM`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from supertwin.cli.options import Argument, Command, Option, Values
from supertwin.cli.sizes import parse_sizes
from supertwin.cli.steps import whole_system
from supertwin.core.errors import InputError

if TYPE_CHECKING:
    from supertwin.report.fabric_collectives import Question
    from supertwin.report.fabric_matrix import Matrix
    from supertwin.report.fabric_study import Fabric

_UNREACHABLE = 3
_OPS = "all-reduce, all-gather, reduce-scatter, all-to-all, broadcast, p2p, dispatch or combine"
_OF_COLLECTIVE = ("bytes", "devices", "stride", "algorithm", "library", "level", "trace")
_WIDEST_DEVICES = 16384


def _run(values: Values) -> int:
    from supertwin.report.fabric_study import Fabric

    _check(values)
    system = whole_system(str(values["system"]))
    if system.devices > _WIDEST_DEVICES:
        raise InputError(f"{values['system']}: the fabric is built link by link up to {_WIDEST_DEVICES:,} devices")
    faults = tuple(word.strip() for word in str(values["fault"] or "").split(",") if word.strip())
    fabric = Fabric(system, str(values["plane"] or ""), faults)
    fields, view, code = _answer(fabric, values)
    _write_files(fabric, values)
    _print(values, fields, view)
    return code


def _check(values: Values) -> None:
    """Options that go together, and the kind of the files. Raises InputError."""
    if values["collective"] is None:
        for name in _OF_COLLECTIVE:
            if values[name] is not None:
                raise InputError(f"--{name} needs --collective")
    asked = [flag for flag in ("collective", "pair", "matrix") if values[flag]]
    if len(asked) > 1:
        raise InputError(f"expected one of --{' and --'.join(asked)}, got both")
    for name, kinds in (
        ("png", (".png",)),
        ("svg", (".svg",)),
        ("graphml", (".graphml", ".xml")),
        ("trace", (".json",)),
    ):
        if values[name] is not None and Path(str(values[name])).suffix.lower() not in kinds:
            raise InputError(
                f"--{name}: expected a file name that ends with {' or '.join(kinds)}, got {values[name]!r}"
            )


def _answer(fabric: Fabric, values: Values) -> tuple[dict[str, Any], Any, int]:
    """JSON fields, a function that makes the view, exit code."""
    explain = bool(values["explain"])
    if values["collective"] is not None:
        from supertwin.report.fabric_answers import collective_view
        from supertwin.report.fabric_collectives import collective_fields

        fields = collective_fields(fabric, _question(values))
        return fields, lambda: collective_view(fields, explain, _width()), 0 if fields["reachable"] else _UNREACHABLE
    if values["pair"] is not None:
        from supertwin.report.fabric_answers import pair_view
        from supertwin.report.fabric_study import head, pair_ends, stream_fields

        fields = {**head(fabric), "pair": stream_fields(fabric, *pair_ends(str(values["pair"])))}
        return fields, lambda: pair_view(fields, explain), 0 if fields["pair"]["reachable"] else _UNREACHABLE
    if values["matrix"]:
        return _matrix_answer(fabric, explain)
    if fabric.faults:
        from supertwin.report.fabric_answers import fault_view
        from supertwin.report.fabric_faults import fault_fields

        fields = fault_fields(fabric)
        return fields, lambda: fault_view(fields, explain, _width()), 0
    from supertwin.report.fabric import overview_view
    from supertwin.report.fabric_study import overview_fields

    fields = overview_fields(fabric)
    return fields, lambda: overview_view(fields, explain, _width()), 0


def _matrix_answer(fabric: Fabric, explain: bool) -> tuple[dict[str, Any], Any, int]:
    from supertwin.report.fabric_answers import matrix_view
    from supertwin.report.fabric_study import head

    matrix = _matrix(fabric)
    fields: dict[str, Any] = {
        **head(fabric),
        "packages": matrix.places.tolist(),
        "bytes_per_s": matrix.bytes_per_s.tolist(),
        "latency_s": matrix.latency_s.tolist(),
        "unreachable_pairs": matrix.unreachable,
    }
    return fields, lambda: matrix_view(matrix, fields, explain, _width()), 0


def _width() -> int:
    import shutil
    import sys

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 100


def _matrix(fabric: Fabric) -> Matrix:
    from supertwin.report.fabric_matrix import package_matrix

    return package_matrix(fabric.graph, fabric.whole, fabric.plane or "auto")


def _question(values: Values) -> Question:
    from supertwin.report.fabric_collectives import Question

    sizes = () if values["bytes"] is None else tuple(parse_sizes("--bytes", str(values["bytes"])))
    return Question(
        op=str(values["collective"]),
        sizes=sizes,
        devices=int(str(values["devices"] or 0)),
        stride=int(str(values["stride"] or 1)),
        algorithm=str(values["algorithm"] or ""),
        library=str(values["library"] or ""),
        level=str(values["level"] or ""),
    )


def _write_files(fabric: Fabric, values: Values) -> None:
    """Pictures, GraphML and timeline. Raises MissingExtra, InputError (not writable)."""
    for name in ("png", "svg"):
        if values[name] is not None:
            _draw(fabric, bool(values["matrix"]), Path(str(values[name])))
    if values["graphml"] is not None:
        from supertwin.network.topology import write_graphml

        _writable(lambda path: write_graphml(fabric.graph, path), str(values["graphml"]))
    if values["trace"] is not None:
        import json

        from supertwin.report.fabric_collectives import timeline

        text = json.dumps(timeline(fabric, _question(values)))
        _writable(lambda path: path.write_text(text, encoding="utf-8"), str(values["trace"]))


def _draw(fabric: Fabric, matrix: bool, path: Path) -> None:
    from supertwin.report.fabric_picture import heat_map, planes_picture

    if not matrix:
        planes_picture(fabric.graph, path)
        return
    found = _matrix(fabric)
    name = fabric.system.name + (f" without {', '.join(fabric.faults)}" if fabric.faults else "")
    labels = {"title": f"{name}: one stream between packages", "unit": "GB/s", "axis": "package"}
    heat_map(found.bytes_per_s / 1e9, labels, path)


def _writable(write: Any, given: str) -> None:
    try:
        write(Path(given))
    except OSError as error:
        raise InputError(f"cannot write {given}: {error.strerror or error}") from None


def _print(values: Values, fields: dict[str, Any], view: Any) -> None:
    from supertwin.cli.output import write_json, write_text

    if values["json"]:
        write_json("fabric", fields)
    else:
        write_text(*view())


COMMAND = Command(
    name="fabric",
    brief="The interconnect: bandwidth, latency, collectives, faults",
    help="The interconnect of a machine, link by link: what pairs and groups get, what a fault does, pictures of it.",
    examples=(
        "supertwin fabric cm384",
        "supertwin fabric cm384 --collective all-to-all --bytes '1 MiB,64 MiB,1 GiB' --devices 256",
        "supertwin fabric cm384 --fault ub-l2-4-11",
        "supertwin fabric cm384 --fault node3/ub-l1-4,node7 --matrix --png matrix.png",
        "supertwin fabric cm384 --pair node0/npu0/die0,node47/cpu1",
        "supertwin fabric dgx-h100:64 --collective all-reduce --algorithm ring --trace ring.json",
    ),
    run=_run,
    arguments=(Argument("system", "A shipped system, SYSTEM:N for N devices of it, or a TOML file."),),
    options=(
        Option("--collective", "str", f"{_OPS}."),
        Option("--bytes", "str", "Message sizes: '1 GiB', '64 KB' or bytes, several with commas.", "1 KiB to 1 GiB"),
        Option("--devices", "int", "Devices in the group.", "all in use", minimum=1),
        Option("--stride", "int", "Distance between the devices of the group.", "1", minimum=1),
        Option("--algorithm", "str", "ring, tree, direct, halving-doubling, hierarchical, nvls ...", "the library's"),
        Option("--library", "str", "nccl, hccl, deepep, cann ...", "the vendor's"),
        Option("--fault", "list", "Part to take away; ADDRESS=0.5 leaves half. May be repeated."),
        Option("--pair", "str", "Route between two devices (0,17) or parts (node0/npu0/die0,node3/cpu1)."),
        Option("--matrix", "switch", "Bandwidth from every package to every other one."),
        Option("--level", "str", "Closed form or flow level only.", "both", ("closed", "flow")),
        Option("--plane", "str", "Hold traffic to one plane: ub, rdma, vpc, nvlink ...", "the widest of each pair"),
        Option("--png", "path", "Picture of the planes, or of the matrix, as PNG."),
        Option("--svg", "path", "The same as SVG."),
        Option("--graphml", "path", "Parts and links for Gephi, yEd or networkx."),
        Option("--trace", "path", "Timeline of the collective for Perfetto (largest size)."),
    ),
)  # fmt: skip
