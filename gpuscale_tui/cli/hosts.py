"""`hosts`: what came of renting other people's machines, and which of them are not to be rented."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
from gpuscale_tui.cli.formatting import Column, print_json, print_lines, print_table, span
from gpuscale_tui.model.hosts import failures_in_words
from gpuscale_tui.store.home import Home

if TYPE_CHECKING:
    from gpuscale_tui.engine.standing import HostRow

NOTHING = "nothing was ever rented from anybody, and nobody is banned"


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExample:\n  gpuscale hosts\n  gpuscale hosts ban 104512 --for 6h --reason slow",
)
@json_option
@home_option
@config_option
@click.pass_context
def hosts(ctx: click.Context, as_json: bool, home: Home, config: Path | None) -> None:
    """List the hosts that were rented from, with all that came of it.

    How long they take to be ready, how often they failed or were taken away, and which are paused or banned."""
    if ctx.invoked_subcommand is not None:
        return
    from gpuscale_tui.engine.standing import host_rows

    rows = read(home, host_rows, settings_of(config).machines, now_ms())
    if as_json:
        print_json([shapes.host(row) for row in rows])
    else:
        print_table(_columns(now_ms()), rows, NOTHING)


def _columns(now: int) -> list[Column[HostRow]]:
    return [
        Column("PROVIDER", lambda row: row.history.provider),
        Column("SERVER", lambda row: row.history.server_id),
        Column("OWNER", lambda row: row.history.owner or ""),
        Column("RENTED", lambda row: str(row.history.rentals), right=True),
        Column("READY IN", lambda row: _span(row.history.mean_setup_ms), right=True),
        Column("HELD", lambda row: _span(row.history.held_ms), right=True),
        Column("LOST", lambda row: _span(row.history.lost_ms), right=True),
        Column("MBIT/S", lambda row: _figure(row.history.down_mbps, 0), right=True),
        Column("BILL/QUOTE", lambda row: _figure(row.history.price_ratio, 2), right=True),
        Column("LAST", lambda row: f"{span(now - row.history.last_at)} ago" if row.history.last_at else "", right=True),
        Column("FAILED", lambda row: failures_in_words(row.history)),
        Column("NOT RENTED BECAUSE", lambda row: row.stands, rest=True),
    ]


def _span(milliseconds: int | None) -> str:
    return span(milliseconds) if milliseconds else ""


def _figure(value: float | None, places: int) -> str:
    return "" if value is None else f"{value:.{places}f}"


class Target(click.ParamType[tuple[str, str]]):
    """A host by its server id, or an owner as `owner:ID`."""

    name = "host"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Scope and id."""
        if isinstance(value, tuple):
            return value
        scope, colon, key = str(value).rpartition(":")
        if colon and scope not in {"owner", "host"}:
            self.fail(f"{value!r} is neither a server id nor owner:ID", param, ctx)
        if not key.strip():
            self.fail("an id is needed, as `gpuscale hosts` prints it", param, ctx)
        return scope or "host", key.strip()


provider_option = click.option("--provider", metavar="NAME", help="Where, if the id is known at several providers.")


@verb(
    example="gpuscale hosts ban 104512 --for 6h --reason 'loses its network'\ngpuscale hosts ban owner:3120", name="ban"
)
@click.argument("target", metavar="ID|owner:ID", type=Target())
@click.option("--for", "time", metavar="TIME", help="For this time, such as 6h or 2d; else for good.")
@click.option("--reason", metavar="TEXT", default="", help="Why, for `why` and the market.")
@provider_option
@home_option
def ban(target: tuple[str, str], time: str | None, reason: str, provider: str | None, home: Home) -> None:
    """Rent a host, or any host of an owner, no more.

    A machine that is rented there now stays; `gpuscale release` gives it back."""
    from gpuscale_tui.engine import commands
    from gpuscale_tui.model.durations import parse_duration

    hold_ms = None if time is None else parse_duration(time, "for") * 1000
    with writing(home) as store:
        where = store.write(
            commands.ban, *target, provider=provider, hold_ms=hold_ms, reason=reason, user=user_name(), now=now_ms()
        )
    wake(home, needed=False)
    print_lines([f"{target[0]} {target[1]} of {where} is banned {f'for {time}' if time else 'for good'}"])


@verb(example="gpuscale hosts unban 104512", name="unban")
@click.argument("target", metavar="ID|owner:ID", type=Target())
@provider_option
@home_option
def unban(target: tuple[str, str], provider: str | None, home: Home) -> None:
    """Lift a ban.

    A pause after failures goes on until its time is over."""
    from gpuscale_tui.engine import commands

    with writing(home) as store:
        where = store.write(commands.unban, *target, provider=provider, user=user_name(), now=now_ms())
    wake(home, needed=False)
    print_lines([f"{target[0]} {target[1]} of {where} may be rented again"])


hosts.add_command(ban)
hosts.add_command(unban)
