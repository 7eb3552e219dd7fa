"""`config`: where the settings are, what they say, and whether they are right."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gpuscale_tui.cli.common import config_option, json_option, load_settings, note, verb
from gpuscale_tui.cli.formatting import Column, print_json, print_lines, print_table
from gpuscale_tui.config import SETTINGS_NAME, Explained, config_path, explain
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.settings import UiConfig
from gpuscale_tui.store.home import private_opener


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExample:\n  gpuscale config init\n  gpuscale config check",
)
def config() -> None:
    """Make, show and check the settings."""


@verb(example="gpuscale config init")
@config_option
def init(config: Path | None) -> None:
    """Write a config.toml with every setting explained.

    One that exists is left alone."""
    from gpuscale_tui.config_keys import template

    path = config_path(config, os.environ)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with open(path, "x", encoding="utf-8", opener=private_opener) as file:
            file.write(template())
    except FileExistsError as error:
        raise GpuscaleError(f"{path} is there already and was left as it is") from error
    print_lines([str(path)])


@verb(example="gpuscale config show --json")
@json_option
@config_option
def show(as_json: bool, config: Path | None) -> None:
    """Show every setting, and where it comes from."""
    loaded = load_settings(config)
    rows = explain(loaded)
    if as_json:
        print_json([{"key": row.key, "value": row.value, "source": row.source, "allowed": row.allowed} for row in rows])
    else:
        print_table(_columns(), rows, "")


def _columns() -> list[Column[Explained]]:
    return [
        Column("KEY", lambda row: row.key),
        Column("VALUE", lambda row: row.value or "(not set)"),
        Column("FROM", lambda row: row.source),
        Column("MEANING", lambda row: row.meaning, fold=True),
    ]


@verb(example="gpuscale config check --config ./config.toml")
@config_option
def check(config: Path | None) -> None:
    """Check the settings.

    What is wrong is told with file, key, what was found and what is allowed; the exit code is 2 then."""
    loaded = load_settings(config)
    for warning in loaded.warnings:
        note(f"warning: {warning}")
    _check_screen(loaded.settings.ui, config)
    files = [path for path in (loaded.path, loaded.path.with_name(SETTINGS_NAME)) if path.exists()]
    said = [f"{path}: in order" for path in files]
    print_lines(said or [f"{loaded.path} does not exist: every setting has its default"])


def _check_screen(ui: UiConfig, config: Path | None) -> None:
    """Whether theme and keys exist, as the screen will ask. Raises ThemeError or KeymapError."""
    from gpuscale_tui.tui import keymap, theme

    directory = (config if config is not None else config_path(None, {})).parent
    theme.load(ui.theme, theme.directories(directory))
    keymap.checked_keymap(ui.keymap)


@verb(example="gpuscale config path")
@config_option
def path(config: Path | None) -> None:
    """Print where config.toml is looked for."""
    print_lines([str(config_path(config, os.environ))])


for _command in (init, show, check, path):
    config.add_command(_command)
