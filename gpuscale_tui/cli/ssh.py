"""`ssh`: a shell, or a command, on the machine of a job."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from gpuscale_tui.cli.common import JOB_ID, WORKER_ID, home_option, note, read, verb
from gpuscale_tui.store.home import Home

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from gpuscale_tui.engine.reach import Target


class PlaceType(click.ParamType[tuple[str, int]]):
    """A job or a worker, as people type it: `j17`, `17` or `w3`."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Its letter and number. Fails for what names neither."""
        from gpuscale_tui.model.jobs import parse_label

        if isinstance(value, tuple):
            return value
        named = {letter: parse_label(value, letter) for letter in ("j", "w")}
        found = next(((letter, number) for letter, number in named.items() if number is not None), None)
        if found is None:
            self.fail(f"{value!r} is no job or worker, such as j17 or w3", param, ctx)
        return found

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Jobs and workers that begin so."""
        found: Iterable[CompletionItem] = (
            *JOB_ID.shell_complete(ctx, param, incomplete), *WORKER_ID.shell_complete(ctx, param, incomplete),
        )  # fmt: skip
        return list(found)


PLACE = PlaceType()


def find(connection: sqlite3.Connection, place: tuple[str, int]) -> Target:
    """The machine that a job or worker names. Raises NotFound, and Unreachable where it has none."""
    from gpuscale_tui.engine import reach

    letter, number = place
    return reach.of_job(connection, number) if letter == "j" else reach.of_worker(connection, number)


class Words(click.Command):
    """A command whose words after `--` are taken as they are."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before the first `--`; the rest is run over there."""
        split = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:split])
        if ctx.params.get("command"):
            ctx.fail("write `--` before the command: gpuscale ssh j17 -- nvidia-smi")
        ctx.params["command"] = tuple(args[split + 1 :])
        return rest


@verb(example="gpuscale ssh j17\ngpuscale ssh j17 -- nvidia-smi\ngpuscale ssh w3 -- 'ls -l | head'", cls=Words)
@click.argument("place", metavar="ID", type=PLACE)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@home_option
def ssh(place: tuple[str, int], command: Sequence[str], home: Home) -> None:
    """Open a shell on the machine of a job or worker.

    By OpenSSH's client, where the job works. With a command it runs that instead: one word as a shell line, several
    as they are. The exit code is the one over there; 255 where there was no way."""
    from gpuscale_tui.engine import reach

    target = read(home, find, place)
    terminal = sys.stdin.isatty() and (not command or sys.stdout.isatty())
    words = reach.shell_command(home, target, command, terminal=terminal)
    if not command and terminal:
        note(f"{target.where}; `exit` ends the shell, the job goes on")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(words[0], words)  # noqa: S606 - no shell: the client takes our place, with terminal, signals and exit code
