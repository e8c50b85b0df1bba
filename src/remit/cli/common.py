"""What all commands share: output for people or programs, errors with their exit codes, running a node."""

from __future__ import annotations

import asyncio
import functools
import getpass
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click
import msgspec
import uvloop

from remit.errors import Broken, Mistake, Outage, Place, Refusal, RemitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

P = ParamSpec("P")
R = TypeVar("R")
DONE, REFUSED, WRONG = 0, 1, 2


def safe(text: object) -> str:
    """Text of strangers for a terminal: no escape sequences, no direction tricks, nothing that has no width, one line."""
    shown = str(text)
    return shown if shown.isprintable() else "".join(map(_shown, shown))


def json_text(value: Any) -> str:
    """JSON on one line, in which what a terminal would obey or hide is escaped (RFC 8259 §7): for programs it is the same value."""
    text = msgspec.json.encode(value).decode()
    return text if text.isprintable() else "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def _shown(sign: str) -> str:
    code = ord(sign)
    if sign.isprintable() or sign == "\t":
        return sign
    if sign == "\n":
        return "\\n"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escaped(sign: str) -> str:
    units = sign.encode("utf-16-be").hex()
    return "".join(f"\\u{units[begin : begin + 4]}" for begin in range(0, len(units), 4))


def say(text: str = "") -> None:
    """A line for people, on standard error: standard output is the agent's or a program's."""
    click.echo(text, err=True)


def emit(value: Any, human: str, *, as_json: bool) -> None:
    """The answer of a command on standard output."""
    click.echo(json_text(value) if as_json else human)


def operator() -> str:
    """Who works at this terminal, as the operating system knows them."""
    try:
        return f"local:{getpass.getuser()}"
    except (KeyError, OSError):
        return f"local:uid{os.geteuid()}"


def folder_option(command: Callable[P, R]) -> Callable[P, R]:
    """``--folder``: the working folder."""
    return click.option(
        "--folder",
        "-C",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(),
        envvar="REMIT_FOLDER",
        help="The working folder that holds remit.toml (default: this one).",
    )(command)


def json_option(command: Callable[P, R]) -> Callable[P, R]:
    """``--json``: answer for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Answer with JSON on standard output.")(command)


def reports_errors(command: Callable[P, Awaitable[int | None]]) -> Callable[P, None]:
    """Run an async command; turn errors into sentences and exit codes: 1 refused or found something, 2 wrong usage."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = uvloop.run(_awaited(command, args, kwargs))
        except RemitError as error:
            _report(error, as_json=bool(kwargs.get("as_json")))
            sys.exit(WRONG if isinstance(error, Mistake) else REFUSED)
        except (KeyboardInterrupt, asyncio.CancelledError):
            sys.exit(130)
        except BrokenPipeError:  # whoever read our output has enough: click ends without a word
            raise
        except Exception as error:  # nobody reads a stack trace: what, where, and whose fault
            told = _told(error)
            _report(told, as_json=bool(kwargs.get("as_json")))
            sys.exit(WRONG if isinstance(told, Mistake) else REFUSED)
        sys.exit(code or DONE)

    return run


async def _awaited(command: Callable[..., Awaitable[int | None]], args: Any, kwargs: Any) -> int | None:
    return await command(*args, **kwargs)


def _told(error: Exception) -> RemitError:
    """What is wrong with a file or with the usage is the caller's to mend; all else is a fault of remit."""
    if isinstance(error, click.Abort):
        return Refusal("no answer was given, and nothing was done", code="aborted", hint="answer at a terminal")
    if isinstance(error, click.FileError):
        return Mistake(error.message, code="file", hint="see what stands at that path", place=Place(file=error.ui_filename))
    if isinstance(error, click.ClickException):
        return Mistake(error.format_message(), code="usage", hint="--help tells what there is")
    if isinstance(error, OSError) and error.filename:
        return Mistake(f"{error.strerror}", code="file", hint="see what stands at that path", place=Place(file=str(error.filename)))
    frame = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {error}"[:300]
    return Broken(f"{what} (at {Path(frame.filename).name}:{frame.lineno})", hint="please report this, with what you did")


def error_text(error: RemitError) -> str:
    """An error as every command tells it to programs."""
    place = str(error.place) if error.place else ""
    return json_text({"error": {"code": error.code, "message": error.message, "hint": error.hint, "where": place}})


def usage_text(error: click.UsageError) -> str:
    """The same of wrong usage."""
    hint = f"{error.ctx.command_path} --help" if error.ctx else "remit --help"
    return error_text(Mistake(error.format_message(), code="usage", hint=hint))


def _report(error: RemitError, *, as_json: bool) -> None:
    if as_json:
        click.echo(error_text(error))
    lines = "\n".join(safe(line) for line in str(error).splitlines())
    kind = "fault" if isinstance(error, Broken) else "unavailable" if isinstance(error, Outage) else "remit"
    click.secho(f"{kind}: {lines}", err=True, fg="red")
