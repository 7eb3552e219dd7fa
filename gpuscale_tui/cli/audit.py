"""`audit` and `reap`: what is rented by the providers' own word, and giving back what was lost sight of."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuscale_tui.cli.common import config_option, home_option, json_option, note, now_ms, settings_of, verb
from gpuscale_tui.cli.errors import DONE, FAILED, WrongInput
from gpuscale_tui.cli.formatting import (
    Column,
    iso,
    money,
    on_terminal,
    plural,
    print_json,
    print_lines,
    print_table,
    span,
    usd,
)
from gpuscale_tui.model.errors import Refused
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.store.home import Home

if TYPE_CHECKING:
    from gpuscale_tui.engine.audit import Audit, Found, Kind
    from gpuscale_tui.model.settings import Settings

LOOK_SEC = 3.0
KINDS: tuple[Kind, ...] = ("known", "orphan", "foreign")
WORDS = {
    "known": "of this home",
    "orphan": "proved ours, but given up: `gpuscale reap` gives them back",
    "foreign": "not proved ours: only shown",
}


@verb(example="gpuscale audit\ngpuscale audit --json")
@json_option
@home_option
@config_option
def audit(as_json: bool, home: Home, config: Path | None) -> int:
    """Compare what the providers list with what is known here.

    Every rental on your accounts is known, an orphan (proved ours, but given up) or foreign, with its price. The exit
    code is 0 when nothing costs money unattended, and 1 when there is an orphan, when something is rented while no
    engine runs, or when a provider cannot be read. This verb uses the network.
    """
    found = asyncio.run(_audit(home, settings_of(config)))
    if as_json:
        print_json(_shape(found))
    else:
        _print(found)
    return DONE if found.clean else FAILED


@verb(example="gpuscale reap\ngpuscale reap --yes --timeout 10m\ngpuscale reap --all-ours")
@click.option("--all-ours", is_flag=True, help="Everything of this home too; only while no engine runs.")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@click.option("--timeout", default="5m", show_default=True, metavar="TIME", help="How long to wait for the provider.")
@json_option
@home_option
@config_option
def reap(all_ours: bool, yes: bool, timeout: str, as_json: bool, home: Home, config: Path | None) -> int:  # noqa: PLR0917
    """Give back what is rented and was given up.

    Only what is proved ours; foreign rentals are never touched. It returns when the providers list these rentals no
    more; the exit code is 1 when some are still there or a provider cannot be read. It works beside a running engine.
    With --all-ours what runs is stopped without a last save and put back in the queue.
    """
    from gpuscale_tui.model.durations import parse_duration

    settings, seconds = settings_of(config), float(parse_duration(timeout))
    with _sole(home) if all_ours else contextlib.nullcontext():
        found = asyncio.run(_audit(home, settings))
        if not as_json:
            _print(found)
        targets = [*found.of("orphan"), *(found.of("known") if all_ours else [])]
        if targets and not yes:
            _confirm(targets)
        left = asyncio.run(_reap(home, settings, targets, seconds)) if targets else []
    if as_json:
        print_json({**_shape(found), "given_back": [_row(each) for each in targets if each not in left],
                    "still_there": [_row(each) for each in left]})  # fmt: skip
    elif targets:
        print_lines([_outcome(targets, left)])
    unsure = all_ours and found.unlisted
    if unsure:
        note(f"{_names(found)} may have an order that is not listed yet: look again in a minute")
    return FAILED if left or found.unread or unsure else DONE


def _names(found: Audit) -> str:
    return ", ".join(worker_label(each) for each in found.unlisted)


@contextlib.contextmanager
def _sole(home: Home) -> Iterator[None]:
    """Be the only one who works this home. Raises Refused beside an engine."""
    from gpuscale_tui.engine.lock import EngineLock, EngineRunning

    try:
        with EngineLock(home):
            yield
    except EngineRunning as error:
        raise Refused("an engine runs: `gpuscale stop --now` saves the jobs and gives everything back") from error


def _confirm(targets: Sequence[Found]) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise WrongInput("it is not asked where there is no terminal: give --yes")
    rate = sum(each.rate or 0 for each in targets)
    click.confirm(f"Give {plural(len(targets), 'rental')} for {money(rate, 3)}/h back?", abort=True, err=True)


def _outcome(targets: Sequence[Found], left: Sequence[Found]) -> str:
    if not left:
        return f"{plural(len(targets), 'rental')} given back; the providers confirm it"
    rate = money(sum(each.rate or 0 for each in left), 3)
    return f"{plural(len(left), 'rental')} still there, {rate}/h still runs: run `gpuscale reap` again"


async def _audit(home: Home, settings: Settings) -> Audit:
    from gpuscale_tui.engine import audit as engine_audit

    async with engine_audit.opened(home, settings, os.environ) as providers:
        return await engine_audit.audit(home, providers, now_ms())


async def _reap(home: Home, settings: Settings, targets: Sequence[Found], seconds: float) -> list[Found]:
    from gpuscale_tui.engine.audit import Reaper, opened

    look_sec = min(LOOK_SEC, settings.scaler.poll_interval_sec)
    async with opened(home, settings, os.environ) as providers:
        reaper = Reaper(home, providers, now=now_ms, say=note, look_sec=look_sec, retries=settings.scaler.max_retries)
        return await reaper.reap(targets, timeout_sec=seconds)


def _print(found: Audit) -> None:
    rows = [each for kind in KINDS for each in found.of(kind)]
    print_table(_columns(now_ms()), rows, "no provider lists anything that is rented")
    if on_terminal() and rows:
        print_lines(["", *(_total(found, kind) for kind in KINDS if found.of(kind))])
    for account in found.unread:
        note(f"{account.provider} could not be read, and may have machines that cost money: {account.error}")
    if found.store:
        note(f"warning: {found.store}")
    if found.unlisted:
        note(f"{_names(found)}: no order is listed (yet); the price stays reserved until that is certain")
    if found.engine is None and any(each.rate != 0 for each in found.of("known")):
        note(
            "no engine runs, so nobody watches what is rented: `gpuscale --autopilot` goes on with it,"
            " `gpuscale reap --all-ours` gives it back"
        )


def _total(found: Audit, kind: Kind) -> str:
    of = found.of(kind)
    rate, cost = sum(each.rate or 0 for each in of), sum(each.cost or 0 for each in of)
    return f"{len(of)} {kind}: {money(rate, 3)}/h, {money(cost)} so far ({WORDS[kind]})"


def _columns(now: int) -> list[Column[Found]]:
    return [
        Column("KIND", lambda row: row.kind),
        Column("PROVIDER", lambda row: row.provider),
        Column("ORDER", lambda row: row.order_id),
        Column("SERVER", lambda row: row.server_id),
        Column("WORKER", lambda row: "" if row.worker_id is None else worker_label(row.worker_id)),
        Column("$/H", lambda row: money(row.rate, 3), right=True),
        Column("COST", lambda row: money(row.cost), right=True),
        Column("AGE", lambda row: span(now - row.created_at) if row.created_at else "", right=True),
    ]


def _row(found: Found) -> dict[str, Any]:
    return {
        "provider": found.provider,
        "kind": found.kind,
        "order_id": found.order_id,
        "server_id": found.server_id,
        "worker_id": None if found.worker_id is None else worker_label(found.worker_id),
        "price_per_hour": usd(found.rate),
        "cost_usd": usd(found.cost),
        "created_at": iso(found.created_at or None),
    }


def _shape(found: Audit) -> dict[str, Any]:
    totals = {
        kind: {
            "count": len(of),
            "price_per_hour": usd(sum(each.rate or 0 for each in of)),
            "cost_usd": usd(sum(each.cost or 0 for each in of)),
        }
        for kind in KINDS
        for of in (found.of(kind),)
    }
    return {
        "engine": found.engine,
        "clean": found.clean,
        "unattended": len(found.unattended),
        "totals": totals,
        "rentals": [_row(each) for kind in KINDS for each in found.of(kind)],
        "unread": [{"provider": each.provider, "error": each.error} for each in found.unread],
        "unlisted": [worker_label(each) for each in found.unlisted],
        "store": found.store,
    }
