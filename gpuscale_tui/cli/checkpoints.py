"""`checkpoints`: the snapshots of jobs' checkpoint directories, listed, copied, resumed from, removed."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from gpuscale_tui.cli.common import (
    JOB_ID,
    config_option,
    home_option,
    json_option,
    note,
    now_ms,
    read,
    settings_of,
    unknown_job,
    user_name,
    wake,
    writing,
)
from gpuscale_tui.cli.formatting import Column, iso, print_json, print_lines, print_table, span
from gpuscale_tui.model.errors import FieldError, NotFound, Refused
from gpuscale_tui.model.jobs import StartFrom, job_label, parse_start
from gpuscale_tui.store import queries, snapshots
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.snapshots import SnapshotRow


class Checkpoints(click.Group):
    """A group whose verb may be left out: then it lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Like click's; what begins with no verb is for the list."""
        named = bool(args) and (args[0] in self.commands or args[0] in {"-h", "--help"})
        return super().parse_args(ctx, args if named else ["list", *args])


@click.group(
    cls=Checkpoints,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExample:\n  gpuscale checkpoints j17\n  gpuscale checkpoints get j17/3 ./out",
)
def checkpoints() -> None:
    """List the snapshots of checkpoints that are kept.

    Of one job (`checkpoints ID`) or of all, newest first; or do something with one."""


def _verb(name: str, example: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    return checkpoints.command(
        name, epilog=f"\b\nExample:\n  {example}",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, **settings,
    )  # fmt: skip


@_verb("list", "gpuscale checkpoints j17", hidden=True)
@click.argument("job_id", metavar="[ID]", required=False, type=JOB_ID)
@json_option
@home_option
def list_(job_id: int | None, as_json: bool, home: Home) -> None:
    """List the snapshots that are kept.

    Of one job or of all, newest first."""
    rows = read(home, _kept, job_id)
    if as_json:
        print_json([_json(row) for row in rows])
    else:
        print_table(_columns(now_ms()), rows, "no snapshot is kept")


class SnapshotType(click.ParamType[StartFrom]):
    """A snapshot as people type it: `j17/3`."""

    name = "snapshot"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> StartFrom:
        """Job and number. Fails for what names no snapshot."""
        if isinstance(value, StartFrom):
            return value
        try:
            return parse_start(value)
        except FieldError:
            self.fail(f"{value!r} is no snapshot, such as j17/3", param, ctx)


SNAPSHOT = SnapshotType()


@_verb("get", "gpuscale checkpoints get j17/3 ./out")
@click.argument("which", metavar="J/N", type=SNAPSHOT)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@home_option
@config_option
def get(which: StartFrom, directory: Path, overwrite: bool, home: Home, config: Path | None) -> None:
    """Copy a snapshot into a directory, every byte checked."""
    from gpuscale_tui.engine import checkpoints as engine

    read(home, engine.must_be_kept, which)
    found = engine.snapshot_store(home, settings_of(config)).find(which.job_id, which.snapshot)
    taken = [] if overwrite else engine.in_the_way(found, directory)
    if taken:
        names = ", ".join(repr(name) for name in taken[:5])
        raise Refused(f"{directory} has {len(taken)} files of the same name ({names}): --overwrite replaces them")
    with _bar(found.size, which.label) as progress:
        engine.download(found, directory, overwrite=overwrite, progress=progress)


@contextlib.contextmanager
def _bar(size: int, name: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    with click.progressbar(length=size, label=name, file=sys.stderr) as shown:
        yield lambda done, _all: shown.update(done - shown.pos)


@_verb("resume", "gpuscale checkpoints resume j17/3")
@click.argument("which", metavar="J/N", type=SNAPSHOT)
@home_option
def resume(which: StartFrom, home: Home) -> None:
    """Put a job back so that it goes on from this snapshot."""
    from gpuscale_tui.engine import checkpoints as engine

    with writing(home) as store:
        store.write(engine.resume, which, user=user_name(), now=now_ms())
    print_lines([f"{job_label(which.job_id)} waits in the queue, from snapshot {which.snapshot}"])
    wake(home)


@_verb("prune", "gpuscale checkpoints prune j17/1 j17/2")
@click.argument("which", metavar="J/N...", type=SNAPSHOT, nargs=-1, required=True)
@home_option
@config_option
def prune(which: Sequence[StartFrom], home: Home, config: Path | None) -> None:
    """Remove snapshots; the last whole one of a job stays."""
    from gpuscale_tui.engine import checkpoints as engine

    snapshot_store = engine.snapshot_store(home, settings_of(config))
    for each in which:
        read(home, engine.must_be_kept, each)
    judged = engine.removable(snapshot_store, which)
    with writing(home) as store:
        claimed = store.write(engine.claim_removal, judged.going, user=user_name(), now=now_ms())
    engine.remove(snapshot_store, claimed.going)
    print_lines(f"{each.label} removed" for each in claimed.going)
    staying = [*judged.staying, *claimed.staying]
    for each, reason in staying:
        note(f"{each.label} stays: {reason}")
    if staying:
        raise Refused(f"{len(staying)} of {len(set(which))} stay")


def _kept(connection: sqlite3.Connection, job_id: int | None) -> list[SnapshotRow]:
    if job_id is not None and queries.job_row(connection, job_id) is None:
        raise NotFound(unknown_job(job_id))
    return snapshots.kept(connection, job_id)


def _json(row: SnapshotRow) -> dict[str, object]:
    return {
        "job_id": job_label(row.job_id),
        "snapshot": row.number,
        "attempt": row.attempt,
        "at": iso(row.at),
        "files": row.files,
        "bytes": row.bytes,
    }


def _columns(now: int) -> list[Column[SnapshotRow]]:
    return [
        Column("JOB", lambda row: job_label(row.job_id)),
        Column("SNAPSHOT", lambda row: str(row.number), right=True),
        Column("ATTEMPT", lambda row: str(row.attempt), right=True),
        Column("FILES", lambda row: str(row.files), right=True),
        Column("BYTES", lambda row: f"{row.bytes:,}", right=True),
        Column("AGE", lambda row: span(now - row.at), right=True),
    ]
