"""`checkpoints resume`, `branch` and `save`: jobs that go on from a snapshot, and snapshots taken now."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuscale_tui.cli.checkpoints import WHICH
from gpuscale_tui.cli.common import (
    JOB_ID,
    config_option,
    engine_alive,
    home_option,
    note,
    now_ms,
    read,
    settings_of,
    user_name,
    verb,
    wake,
    writing,
)
from gpuscale_tui.cli.errors import DONE, FAILED, NoEngine, WrongInput
from gpuscale_tui.cli.formatting import plural, print_lines, size, span
from gpuscale_tui.model.durations import parse_duration
from gpuscale_tui.model.errors import FieldError
from gpuscale_tui.model.jobs import StartFrom, job_label
from gpuscale_tui.store import jobs, queries, snapshots
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.snapshots import SnapshotRow

if TYPE_CHECKING:
    from gpuscale_tui.cli.jobspecs import Surroundings
    from gpuscale_tui.model.jobs import JobSpec

LOOK_SEC = 0.2


class Dashed(click.Command):
    """A command whose words after `--` are taken as they are."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before the first `--`; the rest is a command."""
        split = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:split])
        ctx.params["command"] = tuple(args[split + 1 :])
        return rest


@verb(example="gpuscale checkpoints resume j17\ngpuscale checkpoints resume j17/3", cls=Dashed)
@click.argument("which", metavar="J|J/N", type=WHICH)
@home_option
def resume(which: StartFrom | int, home: Home, command: Sequence[str] = ()) -> None:
    """Put a job back so that it goes on from a snapshot.

    Its newest, or the one named. With changed arguments it is another job: see `branch`."""
    if command:
        raise click.UsageError("with another command it is another job: gpuscale checkpoints branch J/N -- COMMAND...")
    from gpuscale_tui.engine import checkpoints as engine

    start = which if isinstance(which, StartFrom) else read(home, _newest, which)
    with writing(home) as store:
        store.write(engine.resume, start, user=user_name(), now=now_ms())
    print_lines([f"{job_label(start.job_id)} waits in the queue, from snapshot {start.snapshot}"])
    wake(home)


def _newest(connection: sqlite3.Connection, job_id: int) -> StartFrom:
    from gpuscale_tui.engine import checkpoints as engine

    return StartFrom(job_id, engine.newest_kept(connection, job_id).number)


BRANCHES = """\
gpuscale checkpoints branch j17/3 -- python train.py --lr 1e-4
gpuscale checkpoints branch j17 --set name=colder --set env.LR=1e-4 --set max_runtime=4h"""


@verb(example=BRANCHES, cls=Dashed)
@click.argument("which", metavar="J/N|J", type=WHICH)
@click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE",
    help="Something else of a job file, such as name=colder; env.K=V for one variable.",
)  # fmt: skip
@home_option
@config_option
def branch(
    which: StartFrom | int, changes: Sequence[str], home: Home, config: Path | None, command: Sequence[str] = ()
) -> None:
    """Make a new job that begins with a snapshot of another.

    Prints its id. It is like that one but for what is set here; the words after -- are its command, run as given.
    Of a job the newest snapshot is taken."""
    from gpuscale_tui.cli.jobspecs import EntryError, Surroundings
    from gpuscale_tui.engine import checkpoints as engine
    from gpuscale_tui.engine import commands

    around = Surroundings(settings_of(config), os.environ, Path.cwd(), user_name())
    start = which if isinstance(which, StartFrom) else read(home, _newest, which)
    source = read(home, engine.branch_of, start)
    try:
        specs = changed(source, _entry(changes, command, source), around)
    except EntryError as error:
        raise WrongInput(str(error)) from error
    with writing(home) as store:
        ids = store.write(commands.submit, home, specs, now=now_ms(), secrets_of=start.job_id)
    print_lines(job_label(job_id) for job_id in ids)
    wake(home)


def _entry(changes: Sequence[str], command: Sequence[str], source: JobSpec) -> dict[str, Any]:
    """What is to be another, with the keys of a job file. `env.K=V` and `data.K=V` change one of the job's own."""
    entry: dict[str, Any] = {"argv": list(command)} if command else {}
    own: Mapping[str, Mapping[str, str]] = {"env": source.env, "data": source.data}
    for text in changes:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise WrongInput(f"--set {text!r}: allowed is KEY=VALUE with a key of a job file, such as name=colder")
        table, dot, name = key.partition(".")
        if dot and table in own:
            entry.setdefault(table, dict(own[table]))[name] = value
        else:
            entry[key] = _value(value)
    if command and "command" in entry:
        raise WrongInput("the command is given twice: after -- and with --set command=")
    return entry


def _value(text: str) -> Any:
    """As in a job file where it is TOML (`4`, `true`, `["a", "b"]`), else the text itself."""
    try:
        found = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    value = found.pop("value", text)
    return value if not found and isinstance(value, str | int | float | list | dict) else text


def changed(source: JobSpec, entry: Mapping[str, Any], around: Surroundings) -> list[JobSpec]:
    """A job's specification with some keys of a job file given anew; several for a sweep. Raises EntryError."""
    from gpuscale_tui.cli.jobspecs import EntryError, fields_of
    from gpuscale_tui.model.sweep import expand

    fields = fields_of(entry, around)
    axes = fields.pop("axes", ())
    fields["secret_env"] = {**source.secret_env, **fields.get("secret_env", {})}
    if fields.get("git") is not None:
        fields.setdefault("workdir", None)
    if fields.get("workdir") is not None:
        fields.setdefault("git", None)
    if "argv" in fields:
        fields["command"] = None
    elif "command" in fields:
        fields["argv"] = ()
    try:
        return expand(replace(source, **fields, user=around.user, start_from=source.start_from), axes)
    except FieldError as error:
        raise EntryError([error]) from error


@verb(example="gpuscale checkpoints save j17")
@click.argument("job_id", metavar="ID", type=JOB_ID)
@click.option("--no-wait", is_flag=True, help="Ask for it and go.")
@click.option("--timeout", default="10m", metavar="TIME", help="Longest to wait for it; 10m by default.")
@home_option
def save(job_id: int, no_wait: bool, timeout: str, home: Home) -> int:
    """Take a snapshot of a running job now.

    Waits until it is stored. Exit code 1 when none came of it; the save goes on when you stop waiting."""
    from gpuscale_tui.engine import checkpoints as engine

    patience = parse_duration(timeout, "--timeout")
    if not engine_alive(home):
        raise NoEngine("no engine runs that would take it: start one with `gpuscale` or `gpuscale --autopilot`")
    asked = now_ms()
    with writing(home) as store:
        before = store.read(snapshots.last_number, job_id)
        attempt = store.write(engine.ask_to_save, job_id, user=user_name(), now=asked)
    wake(home)
    if no_wait:
        return DONE
    found = _wait(lambda: read(home, outcome, job_id, attempt, before), patience)
    print_lines([f"{job_label(job_id)}: {found.words}"])
    return DONE if found.snapshot is not None else FAILED


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of asking for a snapshot: the snapshot, or why there is none, in `words`."""

    words: str
    snapshot: SnapshotRow | None = None


def outcome(connection: sqlite3.Connection, job_id: int, attempt: int, before: int) -> Outcome | None:
    """What came of a save; None while it is under way. `before` is the number of the last snapshot before it."""
    asked = jobs.save_asked(connection, job_id)
    newest = next((row for row in snapshots.kept(connection, job_id) if row.number > before), None)
    if newest is not None and (asked is None or newest.kind == "asked"):
        added = "" if newest.stored is None else f", {size(newest.stored)} of it new"
        took = "" if newest.took_ms is None else f", in {span(newest.took_ms)}"
        words = f"snapshot {newest.number}: {plural(newest.files, 'file')}, {size(newest.bytes)}{added}{took}"
        return Outcome(words, newest)
    if asked is None:
        said = [event.detail for event in queries.job_events(connection, job_id) if event.kind == "request"]
        asking = not said or said[-1].startswith("a snapshot now")
        return Outcome("no snapshot was taken; `gpuscale show` tells what happened" if asking else said[-1])
    job = jobs.get(connection, job_id)
    if job is None or job.attempt != attempt or job.state != "running":
        return Outcome(f"it is {job.state if job else 'gone'} now, and no snapshot was taken before that")
    return None


def _wait(look: Callable[[], Outcome | None], patience: int) -> Outcome:
    """Until something has come of it; how long it takes is told on a terminal."""
    begun = time.monotonic()
    shows = sys.stderr.isatty()
    try:
        while (waited := time.monotonic() - begun) < patience:
            found = look()
            if found is not None:
                return found
            if shows:
                click.echo(f"\rwaiting for the snapshot, {span(round(waited * 1000))} ", nl=False, err=True)
            time.sleep(LOOK_SEC)
    finally:
        if shows:
            click.echo("\r" + " " * 40 + "\r", nl=False, err=True)
    note("it was asked for and may still come: `gpuscale checkpoints` shows it")
    return Outcome(f"no snapshot came within {span(patience * 1000)}")
