"""`checkpoints`: the snapshots of jobs' checkpoint directories: listed, copied, verified, kept and removed.

What makes a job go on from one (`resume`, `branch`, `save`) is in `going_on`.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    writing,
)
from gpuscale_tui.cli.errors import FAILED
from gpuscale_tui.cli.formatting import (
    Column,
    iso,
    on_terminal,
    plural,
    print_json,
    print_lines,
    print_table,
    size,
    span,
)
from gpuscale_tui.model.durations import parse_duration
from gpuscale_tui.model.errors import FieldError, NotFound, Refused
from gpuscale_tui.model.jobs import StartFrom, job_label, parse_label, parse_start
from gpuscale_tui.store import queries, snapshots
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.snapshots import SnapshotRow

if TYPE_CHECKING:
    from gpuscale_tui.model.settings import Settings
    from gpuscale_tui.store.archive import Archive

GOING_ON = ("resume", "branch", "save")
"""Verbs of the module `going_on`, which is loaded for them alone."""


class Checkpoints(click.Group):
    """A group whose verb may be left out: then it lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Like click's; what begins with no verb is for the list."""
        named = bool(args) and (args[0] in self.list_commands(ctx) or args[0] in {"list", "-h", "--help"})
        return super().parse_args(ctx, args if named else ["list", *args])

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are best read."""
        return [name for name in (*super().list_commands(ctx), *GOING_ON) if name != "list"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of this name, loaded now."""
        if cmd_name in GOING_ON:
            from gpuscale_tui.cli import going_on

            found = getattr(going_on, cmd_name)
            return found if isinstance(found, click.Command) else None
        return super().get_command(ctx, cmd_name)


@click.group(
    cls=Checkpoints,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExample:\n  gpuscale checkpoints j17\n  gpuscale checkpoints get j17/3 ./out",
)
def checkpoints() -> None:
    """List the snapshots of checkpoints that are kept.

    Of one job (`checkpoints ID`) or of all, newest first; or do something with one."""


def _verb(name: str, example: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    lines = "\n".join(f"  {line}" for line in example.splitlines())
    return checkpoints.command(
        name, epilog=f"\b\nExample:\n{lines}",
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
        print_table((_short if on_terminal() else _columns)(now_ms()), rows, "no snapshot is kept")


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


class WhichType(click.ParamType["StartFrom | int"]):
    """A snapshot (`j17/3`), or a job (`j17`) for all of its snapshots."""

    name = "snapshot or job"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> StartFrom | int:  # fmt: skip
        """A snapshot, or the number of a job. Fails for what names neither."""
        if isinstance(value, StartFrom | int):
            return value
        job_id = parse_label(value, "j")
        if job_id is not None:
            return job_id
        try:
            return parse_start(value)
        except FieldError:
            self.fail(f"{value!r} is no snapshot or job, such as j17/3 or j17", param, ctx)


WHICH = WhichType()


@_verb("get", "gpuscale checkpoints get j17/3 ./out")
@click.argument("which", metavar="J/N", type=SNAPSHOT)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace files that are there already and are others.")
@home_option
@config_option
def get(which: StartFrom, directory: Path, overwrite: bool, home: Home, config: Path | None) -> None:
    """Copy a snapshot into a directory, every byte checked.

    Files that are there and right are not copied again: what was interrupted goes on when it is repeated."""
    from gpuscale_tui.engine import checkpoints as engine

    row = read(home, engine.must_be_kept, which)
    store = engine.archive_at(home, settings_of(config), row.place)
    found = store.find(which.job_id, which.snapshot)
    standing = engine.look(found, directory)
    if standing.taken and not overwrite:
        names = ", ".join(repr(name) for name in standing.taken[:5])
        raise Refused(
            f"{directory} has {plural(len(standing.taken), 'other file')} of the same name ({names}):"
            " --overwrite replaces them"
        )
    with bar(found.size, which.label) as progress:
        done = engine.download(
            store, found, directory, standing=standing, overwrite=overwrite, progress=progress
        )  # fmt: skip
    there = f", {size(done.there)} of it were there already" if done.there else ""
    note(f"{which.label} is in {directory}: {plural(len(found.files), 'file')}, {size(found.size)}{there}")


@contextlib.contextmanager
def bar(length: int, name: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere. It hears of bytes done and bytes in all."""
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    with click.progressbar(length=max(1, length), label=name, file=sys.stderr) as shown:
        yield lambda done, _all: shown.update(done - shown.pos)


@_verb("verify", "gpuscale checkpoints verify j17\ngpuscale checkpoints verify j17/3 j18/1 --older 1d")
@click.argument("which", metavar="[J/N|J]...", type=WHICH, nargs=-1)
@click.option("--older", metavar="TIME", help="Only those that were not verified for so long: goes on with the rest.")
@home_option
@config_option
def verify(which: Sequence[StartFrom | int], older: str | None, home: Home, config: Path | None) -> int:
    """Compare every byte of snapshots with what was stored.

    Of those named, of jobs, or of all. What comes of it is remembered; exit code 1 when one is broken."""
    settings = settings_of(config)
    rows = read(home, chosen_rows, which)
    if older is not None:
        before = now_ms() - parse_duration(older, "--older") * 1000
        rows = [row for row in rows if row.checked_at is None or row.checked_at < before]
    if not rows:
        note("there is nothing to verify")
    broken = 0
    with writing(home) as database:
        for row in rows:
            broken += bool(_verify(row, home, settings, database.write))
    return FAILED if broken else 0


def _verify(row: SnapshotRow, home: Home, settings: Settings, write: Callable[..., object]) -> str:
    """Verify one, tell it and note it; what is wrong with it."""
    from gpuscale_tui.engine import checkpoints as engine

    which = StartFrom(row.job_id, row.number)
    with bar(row.bytes, which.label) as progress:
        fault = engine.broken(
            engine.archive_at(home, settings, row.place), which, hashes=True, progress=progress
        )  # fmt: skip
    write(engine.note_check, which, fault, now=now_ms())
    whole = f"whole, {plural(row.files, 'file')}, {size(row.bytes)}"
    print_lines([f"{which.label}  {f'broken: {fault}' if fault else whole}"])
    sys.stdout.flush()
    return fault


def chosen_rows(connection: sqlite3.Connection, which: Sequence[StartFrom | int]) -> list[SnapshotRow]:
    """The kept snapshots that are named, each once; of whole jobs all, without a name those of all jobs."""
    from gpuscale_tui.engine import checkpoints as engine

    rows: dict[tuple[int, int], SnapshotRow] = {}
    for each in which:
        found = [engine.must_be_kept(connection, each)] if isinstance(each, StartFrom) else _kept(connection, each)
        rows |= {(row.job_id, row.number): row for row in found}
    return list(rows.values()) if which else _kept(connection, None)


@_verb("pin", "gpuscale checkpoints pin j17/3")
@click.argument("which", metavar="J/N...", type=SNAPSHOT, nargs=-1, required=True)
@home_option
def pin(which: Sequence[StartFrom], home: Home) -> None:
    """Keep snapshots, whatever else is pruned.

    Until they are unpinned; the newest are kept beside them."""
    from gpuscale_tui.engine import checkpoints as engine

    with writing(home) as store:
        done = store.write(engine.pin, which, user=user_name(), now=now_ms())
    print_lines(f"{each.label} {'is pinned' if each in done else 'was pinned before'}" for each in dict.fromkeys(which))


@_verb("unpin", "gpuscale checkpoints unpin j17/3")
@click.argument("which", metavar="J/N...", type=SNAPSHOT, nargs=-1, required=True)
@home_option
def unpin(which: Sequence[StartFrom], home: Home) -> None:
    """Let snapshots be pruned like others again."""
    from gpuscale_tui.engine import checkpoints as engine

    with writing(home) as store:
        done = store.write(engine.unpin, which, user=user_name(), now=now_ms())
    print_lines(
        f"{each.label} {'is not pinned any more' if each in done else 'was not pinned'}"
        for each in dict.fromkeys(which)
    )


@_verb("prune", "gpuscale checkpoints prune j17/1 j17/2\ngpuscale checkpoints prune j17 --keep 2")
@click.argument("which", metavar="[J/N|J]...", type=WHICH, nargs=-1, required=True)
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Of the jobs named, all but their newest N.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@home_option
@config_option
def prune(
    which: Sequence[StartFrom | int], keep: int | None, yes: bool, home: Home, config: Path | None
) -> None:  # fmt: skip
    """Remove snapshots, but never the last whole one of a job.

    Those that are pinned stay too. It cannot be undone. On a terminal it asks first, and says what is freed."""
    if any(isinstance(each, int) for each in which) != (keep is not None):
        raise click.UsageError("name snapshots, such as j17/1; or jobs, such as j17, with --keep N")
    from gpuscale_tui.engine import checkpoints as engine

    settings = settings_of(config)
    staying = 0
    for place, chosen in read(home, _by_place, which).items():
        store = engine.archive_at(home, settings, place)
        if keep is not None:
            jobs = {each.job_id for each in chosen}
            chosen = [part for job in jobs for part in read(home, engine.superfluous, store, job, keep)]  # noqa: PLW2901
        staying += _prune(home, store, chosen, yes=yes)
    if staying:
        raise Refused(f"{plural(staying, 'snapshot')} {'stays' if staying == 1 else 'stay'}")


def _by_place(connection: sqlite3.Connection, which: Sequence[StartFrom | int]) -> Mapping[str, list[StartFrom]]:
    """The snapshots that are named, by where they are; those whose removal was begun before, too."""
    found: dict[str, list[StartFrom]] = {}
    for each in which:
        rows = _kept(connection, each) if isinstance(each, int) else [_named(connection, each)]
        for row in rows:
            found.setdefault(row.place, []).append(StartFrom(row.job_id, row.number))
    return found


def _named(connection: sqlite3.Connection, which: StartFrom) -> SnapshotRow:
    row = snapshots.get(connection, which.job_id, which.snapshot)
    if row is None:
        raise NotFound(f"there is no snapshot {which.label}; `gpuscale checkpoints` lists them")
    return row


def _prune(home: Home, store: Archive, chosen: Iterable[StartFrom], *, yes: bool) -> int:
    """Remove them after asking; returns how many stay."""
    from gpuscale_tui.engine import checkpoints as engine

    wanted = list(dict.fromkeys(chosen))
    gone = [each for each in wanted if not read(home, _is_kept, each)]
    engine.remove(store, gone)  # a removal that was interrupted is finished
    for each in gone:
        note(f"{each.label} was removed before")
    jobs = {each.job_id for each in wanted}
    checked = read(home, engine.checked_lately, jobs, now_ms())
    judged = engine.removable(store, [each for each in wanted if each not in gone], checked=checked)
    if judged.going:
        _ask(judged.going, engine.frees(store, judged.going), yes=yes)
    with writing(home) as database:
        claimed = database.write(engine.claim_removal, judged.going, user=user_name(), now=now_ms())
    freed = engine.frees(store, claimed.going)
    engine.remove(store, claimed.going)
    print_lines(f"{each.label} removed" for each in claimed.going)
    if claimed.going:
        note(f"{size(freed)} freed")
    for each, reason in (*judged.staying, *claimed.staying):
        note(f"{each.label} stays: {reason}")
    return len(judged.staying) + len(claimed.staying)


def _ask(going: Sequence[StartFrom], freed: int, *, yes: bool) -> None:
    """Ask on a terminal. Raises click.Abort where the answer is no."""
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    names = ", ".join(each.label for each in going[:8]) + (" and others" if len(going) > 8 else "")
    question = f"Remove {plural(len(going), 'snapshot')} ({names})? It frees {size(freed)} and cannot be undone."
    click.confirm(question, abort=True, err=True)


def _is_kept(connection: sqlite3.Connection, which: StartFrom) -> bool:
    return _named(connection, which).pruned_at is None


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
        "step": row.step,
        "epoch": _number(row.epoch),
        "loss": _number(row.loss),
        "kind": row.kind,
        "pinned": row.pinned_at is not None,
        "checked_at": iso(row.checked_at),
        "fault": row.fault,
        "stored_bytes": row.stored,
        "took_ms": row.took_ms,
        "place": row.place,
    }


def _number(value: float | None) -> float | None:
    """JSON has no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _columns(now: int) -> list[Column[SnapshotRow]]:
    """For programs: the first six never change."""
    return [
        Column("JOB", lambda row: job_label(row.job_id)),
        Column("SNAPSHOT", lambda row: str(row.number)),
        Column("ATTEMPT", lambda row: str(row.attempt)),
        Column("FILES", lambda row: str(row.files)),
        Column("BYTES", lambda row: f"{row.bytes:,}"),
        Column("AGE", lambda row: span(now - row.at)),
        Column("STEP", lambda row: "" if row.step is None else str(row.step)),
        Column("EPOCH", lambda row: "" if row.epoch is None else f"{row.epoch:g}"),
        Column("LOSS", lambda row: "" if row.loss is None else f"{row.loss:.6g}"),
        Column("KIND", lambda row: row.kind),
        Column("STORED", lambda row: "" if row.stored is None else f"{row.stored:,}"),
        Column("STATE", lambda row: _state(row, now)),
    ]


def _short(now: int) -> list[Column[SnapshotRow]]:
    """For a terminal of 80 columns."""
    return [
        Column("JOB", lambda row: job_label(row.job_id)),
        Column("NO", lambda row: str(row.number), right=True),
        Column("TRY", lambda row: str(row.attempt), right=True),
        Column("STEP", lambda row: "-" if row.step is None else f"{row.step:,}", right=True),
        Column("LOSS", lambda row: "-" if row.loss is None else f"{row.loss:.4g}", right=True),
        Column("KIND", lambda row: row.kind),
        Column("SIZE", lambda row: size(row.bytes), right=True),
        Column("STORED", lambda row: "-" if row.stored is None else size(row.stored), right=True),
        Column("AGE", lambda row: span(now - row.at), right=True),
        Column("STATE", lambda row: _state(row, now), rest=True),
    ]


def _state(row: SnapshotRow, now: int) -> str:
    pinned = "pinned, " if row.pinned_at is not None else ""
    if row.fault is not None:
        return f"{pinned}broken: {row.fault}"
    checked = "kept" if row.checked_at is None else f"verified {span(now - row.checked_at)} ago"
    return pinned + checked
