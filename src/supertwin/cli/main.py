"""Entry point: runs a command and turns every error into one sentence and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from supertwin.cli.output import silence_stdout
from supertwin.core.errors import SupertwinError, nearest_sentence

_INTERRUPTED = 130
_LONGEST_WORD, _LONGEST_MESSAGE = 160, 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program. Returns the exit code: 0 ok, 1 failed, 2 bad input, 3 infeasible, 4 missing extra."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:
        silence_stdout()
        return 0
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(arguments: list[str]) -> int:
    import typer

    from supertwin.cli.app import build

    try:
        command = typer.main.get_command(build())
        code = command.main(args=arguments, prog_name="supertwin", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except SupertwinError as error:
        return _complain(str(error), error.exit_code)
    except typer.Exit as exit_request:
        return exit_request.exit_code
    except SystemExit as exit_request:
        return exit_request.code if isinstance(exit_request.code, int) else 1
    except typer.Abort:
        return _INTERRUPTED
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except OSError as error:
        if error.filename is not None:
            return _internal(error)
        silence_stdout()
        return _complain(f"cannot write the result: {error.strerror or error}", 1)
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            return _usage(error, arguments)
        return _internal(error)


def _usage(error: Exception, arguments: Sequence[str]) -> int:
    """Errors of the argument parser: unknown option or command, missing value."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())  # type: ignore[attr-defined]
        return 0 if not arguments else 2
    return _complain(_sentence(error) + "; see supertwin --help", 2)


def _sentence(error: Exception) -> str:
    text = str(error.format_message())  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    where = getattr(getattr(context, "command", None), "name", None)
    prefix = f"{where}: " if where and where != "supertwin" else ""
    text = text[:1].lower() + text[1:].rstrip(".?")
    wrong = getattr(error, "option_name", None)
    if wrong and type(error).__name__ == "NoSuchOption":
        legal = [name for parameter in context.command.params for name in parameter.opts] if context else []
        text = f"no such option: {wrong}; {nearest_sentence(wrong, sorted(legal))}"
    return prefix + text


def _internal(error: Exception) -> int:
    if os.environ.get("SUPERTWIN_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    what = " ".join(str(error).split())[:200]
    return _complain(
        f"internal error ({type(error).__name__}: {what}); please report it (SUPERTWIN_DEBUG=1 shows the place)", 1
    )


def _complain(message: str, code: int) -> int:
    text = " ".join(word if len(word) <= _LONGEST_WORD else word[:_LONGEST_WORD] + "..." for word in message.split())
    with contextlib.suppress(BrokenPipeError, UnicodeError):
        print(f"supertwin: {text[:_LONGEST_MESSAGE]}".encode("utf-8", "replace").decode(), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
