"""`queue`, `show` and `why`: what there is to run, and why it is where it is."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from gpuscale_tui.cli import shapes
from gpuscale_tui.cli.common import (
    JOB_ID,
    engine_alive,
    home_option,
    json_option,
    note,
    now_ms,
    read,
    unknown_job,
    verb,
)
from gpuscale_tui.cli.formatting import (
    Column,
    clean,
    gpus,
    local,
    money,
    on_terminal,
    plural,
    print_fields,
    print_json,
    print_lines,
    print_table,
    size,
    span,
)
from gpuscale_tui.model.errors import NotFound
from gpuscale_tui.model.jobs import Attempt, JobSpec, job_label, parse_label, worker_label
from gpuscale_tui.model.states import JobState, Rehearsal
from gpuscale_tui.store import losses, queries
from gpuscale_tui.store.events import Event
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.views import JobFilter, JobRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuscale_tui.store.output_files import OutputRow

ACTIVE = (JobState.RUNNING.value, JobState.PENDING.value)
SCREENFUL = 200
EVERYTHING = 10_000_000


@verb(example="gpuscale queue --state failed\ngpuscale queue --all --json lr=1e-3")
@click.argument("text", required=False, default="")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in JobState]),
    help="Only jobs in this state; may be repeated.",
)
@click.option("--all", "everything", is_flag=True, help="Finished jobs too.")
@click.option(
    "--limit", type=click.IntRange(min=1), help=f"At most so many rows (on a terminal {SCREENFUL}, else all)."
)
@json_option
@home_option
def queue(
    *, text: str, states: tuple[str, ...], everything: bool, limit: int | None, as_json: bool, home: Home
) -> None:
    """List what runs and waits, in the order of service.

    TEXT keeps the jobs whose id, name, project or GPU contain it.
    """
    chosen = JobFilter(states or (() if everything else ACTIVE), text)
    most = limit or (SCREENFUL if on_terminal() and not as_json else EVERYTHING)
    rows, more = read(home, _page, chosen, most, alive=engine_alive(home))
    if as_json:
        print_json([shapes.job(row) for row in rows])
    else:
        print_table(_job_columns(now_ms(), {row.user for row in rows}), rows, _nothing(chosen))
    if more:
        note(f"{more} more: see them with --limit {len(rows) + more}")


def _page(connection: sqlite3.Connection, chosen: JobFilter, limit: int, *, alive: bool) -> tuple[list[JobRow], int]:
    """The rows, and how many more there are."""
    rows = queries.job_rows(connection, chosen, limit=limit, engine_alive=alive)
    return rows, queries.count_jobs(connection, chosen) - len(rows) if len(rows) == limit else 0


def _nothing(chosen: JobFilter) -> str:
    if chosen.text or chosen.states not in {(), ACTIVE}:
        return "no such jobs"
    hint = "`gpuscale submit -- COMMAND...` adds one"
    return f"no jobs: {hint}" if not chosen.states else f"nothing runs or waits: {hint}, --all shows finished ones"


def _job_columns(now: int, users: set[str]) -> list[Column[JobRow]]:
    """Users are named where there are several."""
    return [
        Column("ID", lambda row: row.label),
        *([Column("USER", lambda row: row.user, most=12)] if len(users) > 1 else []),
        Column("NAME", lambda row: row.name, most=24),
        Column("STATE", lambda row: "cancelling" if row.cancelling else row.state),
        Column("PRIO", lambda row: str(row.priority), right=True),
        Column("GPU", lambda row: gpus(row.gpu_type, row.gpu_count)),
        Column("WORKER", lambda row: worker_label(row.worker_id) if row.worker_id is not None else ""),
        Column("COST", lambda row: money(row.cost), right=True),
        Column("AGE", lambda row: _age(row, now), right=True),
        Column("WHY", lambda row: row.why, rest=True),
    ]


def _age(row: JobRow, now: int) -> str:
    """How long it has waited or run, or how long ago it ended."""
    if row.finished_at is not None:
        return f"{span(now - row.finished_at)} ago"
    return span(now - (row.started_at if row.state == "running" and row.started_at else row.submitted_at))


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known of one job."""

    row: JobRow
    spec: JobSpec
    attempts: list[Attempt]
    events: list[Event]
    rehearsal: Rehearsal = Rehearsal.NONE
    rehearsed: str = ""
    """How far the rehearsal of its move is, or what came of it."""
    git_commit: str | None = None
    outputs: tuple[OutputRow, ...] = ()


def story(connection: sqlite3.Connection, job_id: int, *, alive: bool) -> Story:
    """All that is known of one job. Raises NotFound."""
    from gpuscale_tui.store import jobs, output_files, rehearsals

    row = queries.job_row(connection, job_id, engine_alive=alive)
    job = jobs.get(connection, job_id)
    if row is None or job is None:
        raise NotFound(unknown_job(job_id))
    attempts, events = queries.attempts(connection, job_id), queries.job_events(connection, job_id)
    return Story(
        row, job.spec, attempts, events, job.rehearsal, rehearsals.words(job), job.git_commit,
        tuple(output_files.of_job(connection, job_id)),
    )  # fmt: skip


@verb(example="gpuscale show j17")
@click.argument("job_id", metavar="ID", type=JOB_ID)
@json_option
@home_option
def show(job_id: int, as_json: bool, home: Home) -> None:
    """Tell the whole story of a job.

    What was asked for, its attempts, all that happened, what it cost, and why it is where it is."""
    found = read(home, story, job_id, alive=engine_alive(home))
    if as_json:
        print_json(
            {
                **shapes.job(found.row),
                "spec": shapes.spec(found.spec),
                "rehearsal": {"state": found.rehearsal or None, "detail": found.rehearsed},
                "git_commit": found.git_commit,
                "outputs": [shapes.output(output) for output in found.outputs],
                "attempts": [shapes.attempt(attempt) for attempt in found.attempts],
                "events": [shapes.event(event) for event in found.events],
            }
        )
        return
    print_fields([*_summary(found), ("Rehearsal", found.rehearsed)])
    _section("Outputs", (_output_line(output) for output in found.outputs))
    _section("Attempts", (_attempt_line(attempt) for attempt in found.attempts))
    _section("Events", (_event_line(event) for event in found.events))


def _section(title: str, lines: Iterator[str]) -> None:
    shown = [clean(line) for line in lines]
    if shown:
        print_lines(["", title, *(f"  {line}" for line in shown)])


def _summary(found: Story) -> list[tuple[str, str]]:
    row, spec = found.row, found.spec
    limit = "" if row.max_price is None else f"{money(row.max_price)} per hour{' and GPU' if row.gpu_type else ''}"
    return [
        ("Job", f"{row.label}  {row.name}"),
        ("State", "cancelling" if row.cancelling else row.state),
        ("Why", row.why),
        ("Command", spec.command_line),
        ("Image", spec.image),
        ("GPU", gpus(row.gpu_type, row.gpu_count)),
        ("Price limit", limit),
        ("Priority", str(row.priority)),
        ("Longest run", span(spec.max_runtime_sec * 1000) if spec.max_runtime_sec else ""),
        ("Environment", " ".join([*(f"{k}={v}" for k, v in spec.env.items()), *(f"{k}=***" for k in spec.secret_env)])),
        ("Directory", spec.workdir or ""),
        ("Code", _code(spec, found.git_commit)),
        ("Data sets", " ".join(f"{name}={path}" for name, path in spec.data.items())),
        ("Starts from", spec.start_from.label if spec.start_from else ""),
        ("Told to end", _ending(spec)),
        ("Checkpoints", spec.checkpoint_dir or ""),
        ("Project", row.project or ""),
        ("User", row.user),
        ("Provider", row.provider or ""),
        ("Rented", spec.market or ""),
        ("Retries", "" if spec.retries is None else str(spec.retries)),
        ("Worker", _where(row)),
        ("Submitted", local(row.submitted_at)),
        ("Started", local(row.started_at)),
        ("Finished", local(row.finished_at)),
        ("Exit code", "" if row.exit_code is None else str(row.exit_code)),
        ("Cause", row.cause or ""),
        ("Error", row.error or ""),
        ("Cost", money(row.cost, 4)),
    ]


def _code(spec: JobSpec, commit: str | None) -> str:
    if spec.git is None:
        return ""
    return spec.git.label + (f", commit {commit}" if commit else ", its commit is not known yet")


def _ending(spec: JobSpec) -> str:
    """Nothing where it is as usual."""
    if spec.stop_signal == "TERM" and spec.grace_sec is None:
        return ""
    grace = "" if spec.grace_sec is None else f", then {span(spec.grace_sec * 1000)} to save and end"
    return f"by SIG{spec.stop_signal}{grace}"


def _output_line(output: OutputRow) -> str:
    fetched = f"attempt {output.attempt}: {plural(output.files, 'file')}, {size(output.bytes)}, {local(output.at)}"
    return f"{fetched}; {output.error}" if output.error else fetched


def _where(row: JobRow) -> str:
    if row.worker_id is None:
        return ""
    rate = f" at {money(row.rate, 4)}/h" if row.rate is not None else ""
    return f"{worker_label(row.worker_id)}{rate}{f', order {row.order_id}' if row.order_id else ''}"


def _attempt_line(attempt: Attempt) -> str:
    begun, ended = attempt.started_at or attempt.assigned_at, attempt.ended_at
    parts = [
        f"{attempt.number} on {worker_label(attempt.worker_id)}: {attempt.state}",
        f"from {local(begun)}",
        f"for {span(ended - begun)}" if ended is not None else "",
        attempt.cause.value if attempt.cause else "",
        f"exit code {attempt.exit_code}" if attempt.exit_code is not None else "",
        f"{attempt.output_bytes:,} bytes of output",
        _resumed(attempt),
        losses.in_words(attempt.lost) if attempt.lost is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def _resumed(attempt: Attempt) -> str:
    if attempt.resumed_from is None:
        return ""
    step = f" at step {attempt.resumed_step}" if attempt.resumed_step is not None else ""
    first = f", its first step was {attempt.first_step}" if attempt.first_step is not None else ""
    return f"resumed from snapshot {attempt.resumed_from}{step}{first}"


def _event_line(event: Event) -> str:
    change = f"{event.from_state or ''} -> {event.to_state}" if event.to_state else ""
    worker = worker_label(event.worker_id) if event.worker_id is not None else ""
    attempt = f"attempt {event.attempt}" if event.kind == "attempt" else ""
    words = [local(event.at), event.kind, attempt, change.strip(" ->") if not event.from_state else change]
    return "  ".join(part for part in (*words, event.cause or "", worker, event.detail) if part)


@verb(example="gpuscale why j17\ngpuscale why w3")
@click.argument("label", metavar="ID")
@home_option
def why(label: str, home: Home) -> None:
    """Say why a job waits, or why a worker is still up.

    With the smallest change that would lift it."""
    job_id, worker_id = parse_label(label, "j"), parse_label(label, "w")
    alive = engine_alive(home)
    if job_id is not None:
        print_lines([clean(f"{job_label(job_id)}: {read(home, _why_job, job_id, alive=alive)}")])
    elif worker_id is not None:
        print_lines([clean(f"{worker_label(worker_id)}: {read(home, _why_worker, worker_id)}")])
    else:
        raise click.BadParameter(f"{label!r} is no job or worker, such as j17 or w3", param_hint="'ID'")


def _why_job(connection: sqlite3.Connection, job_id: int, *, alive: bool) -> str:
    from gpuscale_tui.store import jobs, rehearsals

    row, job = queries.job_row(connection, job_id, engine_alive=alive), jobs.get(connection, job_id)
    if row is None or job is None:
        raise NotFound(unknown_job(job_id))
    return "; ".join(words for words in (row.why, rehearsals.words(job)) if words)


def _why_worker(connection: sqlite3.Connection, worker_id: int) -> str:
    if queries.worker_row(connection, worker_id) is None:
        raise NotFound(f"there is no worker {worker_label(worker_id)}; `gpuscale workers --all` lists them")
    return queries.why_worker(connection, worker_id)
