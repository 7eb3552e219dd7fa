"""What comes from machines, markets and users' files is shown as text, whatever it holds."""

from __future__ import annotations

import re
import unicodedata

import pytest
from rich.cells import cell_len

from gpuscale_tui.engine import commands
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import jobs, logs
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.app import GpuscaleApp

from .conftest import MakeApp, painted, press, settle

EVIL = (
    "\x1b[2J\x1b[H\x1b]0;owned\x07\x1b]52;c;aGk=\x07\x9b31m[bold red]x[/] [/] \u202eevil\u2066 \u200b"
    "\x85\x00\x07\r\x08 🧨 \ud83d"
)


PRINTABLE = "[bold red]x[/] [/] \u202eevil\u2066 \u200b 🧨 e\u0301\u0301\u0301\u0301"
"""A job's name is checked for control characters when it is submitted; these get through."""


def strips(app: GpuscaleApp) -> list[str]:
    """Everything that is drawn, each segment's text."""
    return [segment.text for strip in painted(app) for segment in strip]


def check_harmless(app: GpuscaleApp) -> None:
    """No control, format, private or surrogate character is drawn, and each line has the terminal's width."""
    for text in strips(app):
        bad = [c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Co", "Cs", "Cn"}]
        assert not bad, (bad, text)
    for strip in painted(app):
        assert cell_len("".join(segment.text for segment in strip)) == app.size.width


@pytest.fixture
def evil_home(busy_home: Home) -> Home:
    """A home whose names, errors, orders and output are hostile."""
    with Database(busy_home.database) as db:
        evil = EVIL.replace("\ud83d", "")
        db.connection.execute("DROP TRIGGER events_are_not_changed")  # it could have been written so
        for table, column in (("jobs", "name"), ("jobs", "error"), ("workers", "order_id"), ("workers", "why"),
                              ("workers", "host"), ("events", "detail"), ("offers", "country"), ("offers", "verdict"),
                              ("group_reasons", "reason"), ("workers", "server_id")):  # fmt: skip
            key = "rowid" if table in {"jobs", "workers", "events"} else "provider" if table == "offers" else "code"
            suffix = f" || {key}" if key == "rowid" else ""
            given = PRINTABLE if (table, column) == ("jobs", "name") else evil
            db.connection.execute(f"UPDATE {table} SET {column} = ?{suffix}", (given,))
    connection = logs.connect_logs(busy_home.logs)
    raw = (
        EVIL.encode("utf-8", "surrogatepass")
        + b"\xff\xfe\xc3(\n"
        + b"A" * 1_000_000
        + b"\n"
        + "\u0301".encode() * 9_000
    )
    logs.append(connection, 11, 1, logs.size(connection, 11, 1), raw + b"\nlast\n")
    connection.close()
    return busy_home


@pytest.mark.parametrize("utf8", [True, False])
async def test_hostile_text_is_harmless_on_every_screen(evil_home: Home, make_app: MakeApp, utf8: bool) -> None:
    """Names, errors, events, market and output: escapes, C1, markup, direction changes, a line of a megabyte."""
    app = make_app(evil_home, utf8=utf8)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        for keys in (("1",), ("enter",), ("1", "x"), ("escape", "w"), ("escape", "2"), ("enter",), ("3",), ("1", "l"),
                     ("5",), ("6",), ("7",), ("ctrl+p",), ("e", "v")):  # fmt: skip
            await press(pilot, *keys)
            check_harmless(app)
            if not utf8:
                own = set("╭╮╰╯─│▁▂▃▄▅▆▇█▎▊▉▋▌▍▏▕")
                assert not [t for t in strips(app) if not t.isascii() and not set(t) - {" "} <= own], keys
        text = "".join(strips(app))
        assert "\x1b" not in text


async def test_markup_in_names_is_shown_as_it_is_written(busy_home: Home, make_app: MakeApp) -> None:
    """`[/]` is no markup here, in tables, questions and toasts."""
    with Database(busy_home.database) as db:
        (new,) = db.write(
            commands.submit, busy_home,
            [JobSpec(image="x", command="[/]", name="[/] [bold]b[/bold] $x {y}", priority=1)], now=1,
        )  # fmt: skip
        db.write(jobs.request_cancel, [new], 2, "[/]")
    app = make_app(busy_home)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await press(pilot, "G", "k", "k", "k", "k", "k", "k")
        app.show_job(new)
        await settle(pilot)
        text = "".join(strips(app))
        assert "[/] [bold]b[/bold] $x {y}" in text
        await press(pilot, "r")
        assert "[/] [bold]b[/bold]" in "".join(strips(app))


async def test_a_very_long_line_is_drawn_in_no_time_and_cut(evil_home: Home, make_app: MakeApp) -> None:
    """Only the visible part of a line of a megabyte is ever looked at."""
    app = make_app(evil_home)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.show_logs(11)
        await settle(pilot)
        lines = ["".join(segment.text for segment in strip) for strip in painted(app)]
        assert any(re.search("A{60,}…", line) for line in lines)
        assert any("last" in line for line in lines)
