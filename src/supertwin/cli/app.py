"""The command tree: subcommands as data become a typer application."""

from __future__ import annotations

import inspect
import os
from typing import Annotated, Any

import typer

from supertwin.cli import calibrate, claims, compare, fabric, infer, show, train, validate
from supertwin.cli.options import Argument, Command, Option
from supertwin.cli.output import silence_stdout
from supertwin.core.errors import InputError

COMMANDS: tuple[Command, ...] = (
    show.COMMAND,
    compare.COMMAND,
    claims.COMMAND,
    train.COMMAND,
    infer.COMMAND,
    fabric.COMMAND,
    validate.COMMAND,
    calibrate.COMMAND,
)

CALIBRATION = "SUPERTWIN_CALIBRATION"
_HELP = """A digital twin of AI supernodes: what does my model do on this machine, what bounds it, what does it cost?

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 bad input, 3 does not fit or misses its
target, 4 an optional package is missing."""


def build() -> typer.Typer:
    """The application with every command."""
    app = typer.Typer(
        help=_HELP,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )

    @app.callback(invoke_without_command=True)
    def version(
        show_version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
    ) -> None:
        if show_version:
            from supertwin import __version__

            typer.echo(f"supertwin {__version__}")
            raise typer.Exit

    for command in COMMANDS:
        app.command(command.name, help=command.help, short_help=command.brief, epilog=_epilog(command))(
            _callback(command)
        )
    return app


def _epilog(command: Command) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {example}" for example in command.examples)


def _callback(command: Command) -> Any:
    def run(**raw: object) -> int:
        try:
            values = command.values(raw)
            check_environment()
            return command.run(values)
        except BrokenPipeError:  # typer would turn it into exit code 1
            silence_stdout()
            return 0

    parameters = [_argument(argument) for argument in command.arguments]
    parameters += [_option(option) for option in command.all_options]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def check_environment() -> None:
    """A folder of calibration files that is named but not there would be passed over in silence. Raises InputError."""
    named = os.environ.get(CALIBRATION)
    if named and not os.path.isdir(named):
        raise InputError(f"{CALIBRATION} names {named!r}, which is not a folder; expected one of calibration files")


def _argument(argument: Argument) -> inspect.Parameter:
    info = typer.Argument(metavar=argument.name.upper() + ("..." if argument.many else ""), help=argument.help)
    kind: Any = list[str] if argument.many else str | None if argument.optional else str
    return _parameter(argument.name, Annotated[kind, info], None if argument.optional else inspect.Parameter.empty)


def _option(option: Option) -> inspect.Parameter:
    text = option.help + (f" [default: {option.default}]" if option.default else "")
    if option.kind == "switch":
        return _parameter(option.name, Annotated[bool, typer.Option(option.flag, help=text)], False)
    if option.kind == "yesno":
        flags = f"{option.flag}/--no-{option.flag.removeprefix('--')}"
        return _parameter(option.name, Annotated[bool | None, typer.Option(flags, help=text)], None)
    info = typer.Option(option.flag, metavar=option.metavar, help=text, show_default=False)
    if option.kind == "list":
        return _parameter(option.name, Annotated[list[str] | None, info], None)
    return _parameter(option.name, Annotated[str | None, info], None)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
