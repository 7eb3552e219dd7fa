"""`status` and `stop`: the one line of truth, and the end of the engine."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import click

from gpuscale_tui.cli import shapes
from gpuscale_tui.cli.common import (
    config_option,
    engine_alive,
    home_option,
    json_option,
    note,
    now_ms,
    read,
    settings_of,
    user_name,
    verb,
    writing,
)
from gpuscale_tui.cli.errors import DONE, FAILED, NoEngine
from gpuscale_tui.cli.formatting import money, plural, print_fields, print_json, print_lines, span
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.states import LIVE_WORKER_STATES
from gpuscale_tui.store import queries
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.notices import Target
from gpuscale_tui.store.views import EngineView, Status
from gpuscale_tui.store.wallets import Wallet

SILENT_MS = 60_000
"""Without a sign of life for so long a running engine is worth a word."""
POLL_SEC = 0.2


@verb(example="gpuscale status\ngpuscale status --json")
@json_option
@home_option
@config_option
def status(as_json: bool, home: Home, config: Path | None) -> None:
    """Tell what runs, what is rented, and what it costs now."""
    from gpuscale_tui.cli import limits

    now, cap = current(home, config)
    set_limits = limits.allowances(home, config, cap, engine=now.engine.running)
    if as_json:
        print_json({**shapes.status(now, cap), "budgets": [limits.shape(each) for each in set_limits]})
        return
    print_fields(
        [
            ("engine", _engine_text(now.engine, now_ms())),
            ("jobs", ", ".join(f"{count} {state}" for state, count in now.jobs.items())),
            ("workers", _workers_text(now.workers)),
            ("spend", _spend_text(now, cap)),
            *(("budget", limits.line(each)) for each in set_limits if each.scope != "hour"),
            *(("wallet", wallet_text(wallet, now_ms())) for wallet in now.wallets),
            *(("notices", _deaf_text(target, now_ms())) for target in now.deaf),
        ]
    )


def wallet_text(wallet: Wallet, now: int) -> str:
    """What is left at one provider, for how long, and how old that reading is."""
    lasts = "" if wallet.hours is None else f", {wallet.hours:.1f} h at {money(wallet.rate)}/h"
    low = ", which is low" if wallet.low_since is not None else ""
    read_at = f", read {span(max(0, now - wallet.at))} ago"
    return f"{wallet.provider}: {money(wallet.left)} in {wallet.name}{lasts}{low}{read_at}"


def current(home: Home, config: Path | None) -> tuple[Status, int | None]:
    """The status, and the cap in force: the running engine's, else the settings' (None where they cannot be read)."""
    from gpuscale_tui.engine.lock import running_engine

    pid = running_engine(home)
    now = read(home, queries.status, now_ms(), 0)
    if pid is not None:
        cap = now.spend.cap if now.engine.running else _settings_cap(config)  # it starts: its own is not written yet
        return replace(now, engine=replace(now.engine, running=True, pid=pid or now.engine.pid)), cap
    engine = replace(now.engine, running=False, pid=None, mode=None)
    return replace(now, engine=engine), _settings_cap(config)


def _settings_cap(config: Path | None) -> int | None:
    from gpuscale_tui.model.money import parse_usd

    try:
        return parse_usd(settings_of(config).scaler.max_hourly_budget)
    except GpuscaleError as error:
        note(f"warning: {error}")
        return None


def _engine_text(engine: EngineView, now: int) -> str:
    if not engine.running:
        return "none runs: start one with `gpuscale` or `gpuscale --autopilot`"
    silence = now - engine.heartbeat_at if engine.heartbeat_at is not None else 0
    silent = f", without a sign of life for {span(silence)}" if silence > SILENT_MS else ""
    return f"{engine.mode or 'starting'}, pid {engine.pid}{silent}{f': {engine.note}' if engine.note else ''}"


def _workers_text(counts: dict[str, int]) -> str:
    """Those that may cost money, by state."""
    live = {state: count for state, count in counts.items() if state in LIVE_WORKER_STATES and count}
    if not live:
        return "none rented"
    listed = ", ".join(f"{count} {state}" for state, count in live.items())
    return f"{sum(live.values())} rented: {listed}"


def _spend_text(now: Status, cap: int | None) -> str:
    spend = now.spend
    limit = "an unknown cap" if cap is None else f"{money(cap)}/h"
    return (
        f"{money(spend.used)}/h used and {money(spend.reserved)}/h reserved of {limit};"
        f" today {money(spend.today)}, this month {money(spend.month)}"
    )


def _deaf_text(target: Target, now: int) -> str:
    since = span(now - target.failing_since) if target.failing_since is not None else "some time"
    return f"{target.label} takes none for {since}: {target.error}"


@verb(example="gpuscale stop\ngpuscale stop --now")
@click.option("--now", "at_once", is_flag=True, help="Save running jobs and put them back instead of waiting.")
@home_option
def stop(at_once: bool, home: Home) -> int:
    """End the engine and give every machine back.

    Running jobs finish first, unless --now is given; waiting jobs stay in the queue.
    It returns when the engine has ended, with --now not before the providers confirm that nothing is rented any more;
    until then it tells what still runs. Ctrl+C ends only the waiting.
    """
    from gpuscale_tui.engine import commands
    from gpuscale_tui.engine.doorbell import ring

    if not engine_alive(home):
        raise NoEngine(_without_engine(home))
    with writing(home) as store:
        store.write(commands.stop, at_once=at_once, user=user_name(), now=now_ms())
    ring(home)
    try:
        _wait_for_end(home)
    except KeyboardInterrupt:
        note("the engine goes on stopping; `gpuscale status` shows how far it is")
        raise
    return _after_end(home)


def _without_engine(home: Home) -> str:
    """That there is nothing to stop, and what to do about machines that are rented all the same."""
    live, rate = read(home, _rented) if home.database.exists() else (0, 0)
    if not live:
        return f"no engine runs for {home.path}"
    return (
        f"no engine runs for {home.path}, but {plural(live, 'machine')} may still cost {money(rate)}/h:"
        " `gpuscale --autopilot` goes on with them, `gpuscale reap --all-ours` gives them back without saving"
    )


def _rented(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many machines may cost money, and how much an hour."""
    now = queries.status(connection, now_ms(), 0)
    live = sum(count for state, count in now.workers.items() if state in LIVE_WORKER_STATES)
    return live, now.spend.used + now.spend.reserved


def _wait_for_end(home: Home) -> None:
    """Wait as long as the engine lives (its lock ends with it, however it ends), telling each change."""
    said = ""
    while engine_alive(home):
        told = read(home, _progress)
        if told != said:
            note(told)
            said = told
        time.sleep(POLL_SEC)


def _progress(connection: sqlite3.Connection) -> str:
    now = queries.status(connection, now_ms(), 0)
    live, rate = _rented(connection)
    runs = f", {money(rate)}/h still runs" if live else ""
    return f"stopping: {plural(now.jobs['running'], 'job')} running, {plural(live, 'machine')} rented{runs}"


def _after_end(home: Home) -> int:
    live, rate = read(home, _rented)
    if live:
        note(
            f"the engine has ended, but {plural(live, 'machine')} may still cost {money(rate)}/h: `gpuscale` goes on,"
            " `gpuscale reap --all-ours` gives them back"
        )
        return FAILED
    print_lines(["the engine has ended; nothing is rented"])
    return DONE
