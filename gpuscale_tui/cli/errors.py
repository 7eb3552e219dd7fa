"""The one place where errors become messages and exit codes (DESIGN section 11)."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Callable

import click

from gpuscale_tui.model.errors import FieldError, GpuscaleError, Refused

DONE = 0
FAILED = 1
WRONG_USAGE = 2
NO_ENGINE = 3
REFUSED = 4
INTERRUPTED = 130
PIPE_CLOSED = 141
"""128 and the number of SIGPIPE: what a shell reports of a program whose reader went away."""


class NoEngine(GpuscaleError):
    """There is no engine, and this verb needs one. Exit code 3."""


class WrongInput(GpuscaleError):
    """What was given to a verb cannot be used. Exit code 2."""


def guarded(body: Callable[[], object]) -> int:
    """Run a verb; its exit code. Errors that are meant for a user are told on stderr, without a traceback."""
    try:
        result = body()
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except GpuscaleError as error:
        return told(str(error), exit_code(error))
    except sqlite3.Error as error:
        return told(database_message(error), FAILED)
    except BrokenPipeError:
        return pipe_closed()
    except OSError as error:
        return told(_os_message(error), FAILED)
    return result if isinstance(result, int) else DONE


def told(message: str, code: int) -> int:
    """Say what went wrong; returns the exit code."""
    from gpuscale_tui.cli.formatting import clean_lines

    click.echo(f"Error: {clean_lines(message)}", err=True)
    return code


def exit_code(error: GpuscaleError) -> int:
    """The exit code that an error stands for."""
    from gpuscale_tui.config import ConfigError
    from gpuscale_tui.tui.keymap import KeymapError
    from gpuscale_tui.tui.theme import ThemeError

    kinds: tuple[tuple[type[GpuscaleError], int], ...] = (
        (Refused, REFUSED),
        (NoEngine, NO_ENGINE),
        (FieldError, WRONG_USAGE),
        (WrongInput, WRONG_USAGE),
        (ConfigError, WRONG_USAGE),
        (ThemeError, WRONG_USAGE),
        (KeymapError, WRONG_USAGE),
    )
    return next((code for kind, code in kinds if isinstance(error, kind)), FAILED)


def database_message(error: sqlite3.Error) -> str:
    """What an error of SQLite means for a user."""
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL:
        return "the disk is full: nothing was changed. Make room where the home lies and try again"
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return "another program holds the database: nothing was changed. Try again"
    return f"the database cannot be used: {error}. `gpuscale doctor` looks into it"


def _os_message(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full. Make room and try again"
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def pipe_closed() -> int:
    """Nobody reads any more: keep the interpreter from complaining when it closes the stream. Returns the exit code."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    return PIPE_CLOSED
