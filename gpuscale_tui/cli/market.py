"""`market`: the last reading of what could be rented; `rent`: just one machine of it."""

from __future__ import annotations

from pathlib import Path

import click

from gpuscale_tui.cli import shapes
from gpuscale_tui.cli.common import (
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
from gpuscale_tui.cli.formatting import Column, gpus, money, print_json, print_lines, print_table, span
from gpuscale_tui.store import market as market_store
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.market import OfferRow

NOTHING = "no reading of the market is stored: a running engine looks while jobs wait, and at its start"


@verb(example='gpuscale market --gpu "RTX 4090"')
@click.option("--gpu", metavar="MODEL", help="Only this GPU model.")
@json_option
@home_option
def market(gpu: str | None, as_json: bool, home: Home) -> None:
    """List the offers that the engine saw last.

    The cheapest first, and why it would not rent some of them. Prices are for the whole machine, fees included.
    """
    from gpuscale_tui.model.gpus import canonical_gpu

    rows = read(home, market_store.offers, None if gpu is None else canonical_gpu(gpu))
    if as_json:
        print_json([shapes.offer(row) for row in rows])
    else:
        print_table(
            _columns(now_ms()), rows, NOTHING if gpu is None else f"no offer of {canonical_gpu(gpu)!r} is stored"
        )


@verb(example="gpuscale rent 20917")
@click.argument("server", metavar="SERVER")
@click.option("--provider", metavar="NAME", help="Where the server is, when several providers have one of that id.")
@click.option("--although-banned", is_flag=True, help="Rent it although its host or owner is banned.")
@home_option
@config_option
def rent(server: str, provider: str | None, although_banned: bool, home: Home, config: Path | None) -> None:
    """Rent just this machine of the market.

    At no more than its price in `gpuscale market`. The cap, max_workers and the budgets hold; beyond these it is
    refused with exit code 4."""
    from gpuscale_tui.engine import commands
    from gpuscale_tui.model.errors import NotFound, Refused

    found = [row for row in read(home, market_store.offers) if row.server_id == server]
    found = [row for row in found if provider in {None, row.provider}]
    if not found:
        raise NotFound(f"the market as last read has no server {server}; `gpuscale market` lists it")
    if len({row.provider for row in found}) > 1:
        raise Refused(f"server {server} is at {' and '.join(row.provider for row in found)}: say which by --provider")
    chosen = min(found, key=lambda row: (bool(row.verdict), row.rate))
    settings = settings_of(config)
    with writing(home) as store:
        store.write(commands.rent, chosen, settings, despite_ban=although_banned, user=user_name(), now=now_ms())
    wake(home)
    print_lines(
        [f"asked for server {server} ({chosen.market}) at {money(chosen.rate, 3)}/h; `gpuscale workers` shows it"]
    )


def _columns(now: int) -> list[Column[OfferRow]]:
    return [
        Column("PROVIDER", lambda row: row.provider),
        Column("SERVER", lambda row: row.server_id),
        Column("GPU", lambda row: gpus(row.gpu_type, row.gpu_count)),
        Column("$/H", lambda row: money(row.rate, 3), right=True),
        Column("$/H/GPU", lambda row: money(-(-row.rate // max(1, row.gpu_count)), 3), right=True),
        Column("RENTED AS", lambda row: row.market),
        Column("RELIABLE", lambda row: "" if row.reliability is None else f"{row.reliability:.1%}", right=True),
        Column("COUNTRY", lambda row: row.country or ""),
        Column("RANK", lambda row: "" if row.rank is None else str(row.rank), right=True),
        Column("READ", lambda row: f"{span(now - row.read_at)} ago", right=True),
        Column("NOT RENTED BECAUSE", lambda row: row.verdict, rest=True),
    ]
