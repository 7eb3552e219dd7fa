"""`notify`: do the messages to the outside arrive?"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from gpuscale_tui.cli.common import config_option, home_option, json_option, settings_of, verb
from gpuscale_tui.cli.errors import DONE, FAILED, WrongInput
from gpuscale_tui.cli.formatting import Column, print_json, print_table
from gpuscale_tui.store.home import Home


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExample:\n  gpuscale notify test",
)
def notify() -> None:
    """Send notices: see [notify] in the settings."""


@verb(example="gpuscale notify test")
@json_option
@home_option
@config_option
def test(as_json: bool, home: Home, config: Path | None) -> int:
    """Send one message to every address that is set.

    What came of it is told; the exit code is 1 when one of them did not take it. It uses the network, for some twenty
    seconds at most.
    """
    from gpuscale_tui.engine.notifier import try_all

    settings = settings_of(config)
    if not settings.notify.urls:
        raise WrongInput("no addresses are set: write `urls` into [notify] of the settings")
    rows = [(address.label, result.error) for address, result in asyncio.run(try_all(home, settings, os.environ))]
    if as_json:
        print_json([{"address": label, "sent": not error, "error": error or None} for label, error in rows])
    else:
        columns: list[Column[tuple[str, str]]] = [
            Column("ADDRESS", lambda row: row[0]),
            Column("RESULT", lambda row: row[1] or "sent", fold=True),
        ]
        print_table(columns, rows, "")
    return FAILED if any(error for _, error in rows) else DONE


notify.add_command(test)
