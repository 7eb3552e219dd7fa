"""`workers`, `scale` and `release`: the machines that are rented, and how many there should be."""

from __future__ import annotations

from pathlib import Path

import click

from gpuscale_tui.cli import shapes
from gpuscale_tui.cli.common import (
    WORKER_ID,
    config_option,
    home_option,
    json_option,
    now_ms,
    read,
    settings_of,
    user_name,
    verb,
    wake,
    writing,
)
from gpuscale_tui.cli.formatting import Column, gpus, money, plural, print_json, print_lines, print_table, span
from gpuscale_tui.model.errors import NotFound
from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.policy.liveness import liveness
from gpuscale_tui.store import queries
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.views import WorkerRow

MOST = 100_000


@verb(example="gpuscale workers --all --json")
@click.option("--all", "ended", is_flag=True, help="Those that are gone too.")
@json_option
@home_option
def workers(ended: bool, as_json: bool, home: Home) -> None:
    """List the machines that are rented.

    What each does, what it costs, and why it is still up."""
    rows = read(home, queries.worker_rows, ended=ended, limit=MOST)
    if as_json:
        print_json([shapes.worker(row) for row in rows])
    else:
        print_table(_columns(now_ms()), rows, "nothing is rented" if not ended else "nothing was ever rented")


def _columns(now: int) -> list[Column[WorkerRow]]:
    return [
        Column("ID", lambda row: row.label),
        Column("STATE", lambda row: row.state),
        Column("LIVES", _lives),
        Column("PROVIDER", lambda row: row.provider),
        Column("GPU", lambda row: gpus(row.gpu_type, row.gpu_count)),
        Column("$/H", lambda row: money(row.rate, 3), right=True),
        Column("JOB", lambda row: job_label(row.job_id) if row.job_id is not None else ""),
        Column("COST", lambda row: money(row.cost), right=True),
        Column("AGE", lambda row: span((row.ended_at or now) - row.created_at), right=True),
        Column("ORDER", lambda row: row.order_id or ""),
        Column("WHY", lambda row: row.why, rest=True),
    ]


def _lives(row: WorkerRow) -> str:
    return liveness(row.state, ready_at=row.ready_at, silent_since=row.silent_since) or ""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExample:\n  gpuscale scale up 2",
)
def scale() -> None:
    """Rent machines ahead of the queue, or give some back."""


@verb(example="gpuscale scale up 2", name="up")
@click.argument("amount", metavar="N", type=click.IntRange(1, 10_000))
@home_option
@config_option
def up(amount: int, home: Home, config: Path | None) -> None:
    """Rent N more machines.

    Of the settings' gpu_type, within max_workers and the cap; beyond these it is refused with exit code 4."""
    from gpuscale_tui.engine import commands

    settings = settings_of(config)
    with writing(home) as store:
        store.write(commands.scale_up, amount, settings, user=user_name(), now=now_ms())
    wake(home)
    print_lines([f"asked for {plural(amount, 'more machine')}"])


@verb(example="gpuscale scale down 1", name="down")
@click.argument("amount", metavar="N", type=click.IntRange(1, 10_000))
@home_option
def down(amount: int, home: Home) -> None:
    """Give N machines back.

    Idle ones first, the dearest first; a job on one is saved and put back in the queue."""
    from gpuscale_tui.engine import commands

    with writing(home) as store:
        store.write(commands.scale_down, amount, user=user_name(), now=now_ms())
    wake(home)
    print_lines([f"asked for {plural(amount, 'machine')} to be given back"])


scale.add_command(up)
scale.add_command(down)


@verb(example="gpuscale release w3")
@click.argument("worker_id", metavar="ID", type=WORKER_ID)
@home_option
def release(worker_id: int, home: Home) -> None:
    """Give a machine back.

    A job on it is saved, stopped and put back in the queue."""
    from gpuscale_tui.engine import commands

    label = worker_label(worker_id)
    if not home.database.exists():
        raise NotFound(f"there is no worker {label}; `gpuscale workers` lists them")
    with writing(home) as store:
        store.write(commands.release, worker_id, user=user_name(), now=now_ms())
    wake(home)
    print_lines([f"{label} is being given back; `gpuscale workers` shows it until the provider confirms"])
