"""`market`: the last reading of what could be rented."""

from __future__ import annotations

import click

from gpuscale_tui.cli import shapes
from gpuscale_tui.cli.common import home_option, json_option, now_ms, read, verb
from gpuscale_tui.cli.formatting import Column, gpus, money, print_json, print_table, span
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
        Column("READ", lambda row: f"{span(now - row.read_at)} ago", right=True),
        Column("NOT RENTED BECAUSE", lambda row: row.verdict, rest=True),
    ]
