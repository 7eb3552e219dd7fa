"""Settings as the settings screen lists and edits them: rows, and what is typed as values. No Textual."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from gpuscale_tui.config import DEFAULT, SETTINGS_NAME, Loaded, trouble_with, value_of
from gpuscale_tui.config_keys import (
    AT_THE_NEXT_START,
    HOSTS,
    NOTIFY_URLS,
    Key,
    host_key,
    keys_of,
    tables_of,
    toml_value,
)
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.settings import Settings, SshHost
from gpuscale_tui.tui.format import clean

Kind = Literal["choice", "number", "text", "list", "table"]
THEME = "ui.theme"
KEYMAP = "ui.keymap"


class ValueWrong(GpuscaleError, ValueError):
    """What was typed is no value for the setting; the message says what is."""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting: `id` is its dotted key, `value` as it is shown, `source` where that comes from.

    `key` is None for what is only listed (a host's). `variable` names what wins in the environment. `lead` is the
    first row of its table.
    """

    id: str
    table: str
    name: str
    value: str
    source: str
    place: str
    meaning: str
    allowed: str
    default: str
    key: Key | None = None
    variable: str = ""
    lead: bool = False

    @property
    def here(self) -> bool:
        """Whether it stands in settings.toml."""
        return self.source == SETTINGS_NAME

    @property
    def later(self) -> bool:
        """Whether only the next start of an engine takes it up."""
        return self.id in AT_THE_NEXT_START


def setting_rows(loaded: Loaded) -> list[SettingRow]:
    """Every setting, table by table; the hosts after the table of the providers."""
    rows = [_row(loaded, key) for key in keys_of(Settings)]
    hosts = list(_host_rows(loaded))
    after = next(at for at, row in enumerate(rows) if row.table == "machines")
    return rows[:after] + hosts + rows[after:]


def with_leads(rows: list[SettingRow]) -> list[SettingRow]:
    """The first row of each table marked as such."""
    return [
        row if row.lead is (lead := at == 0 or rows[at - 1].table != row.table) else replace(row, lead=lead)
        for at, row in enumerate(rows)
    ]


def _row(loaded: Loaded, key: Key) -> SettingRow:
    table, _, name = key.dotted.rpartition(".")
    source, place, variable = _source(loaded.source(key.dotted))
    return SettingRow(
        key.dotted, table, name, _said(key, value_of(loaded.settings, key.dotted)), source, place, key.meaning,
        key.allowed, _said(key, key.default), key, variable,
    )  # fmt: skip


def _host_rows(loaded: Loaded) -> Iterator[SettingRow]:
    source, place, variable = _source(loaded.source(HOSTS))
    for number, host in enumerate(loaded.settings.providers.ssh.hosts, 1):
        for name, key in tables_of(SshHost).keys.items():
            yield SettingRow(
                f"{host_key(number)}.{name}", f"host {clean(host.name)}", name, _said(key, getattr(host, name)), source,
                place, key.meaning, key.allowed, "" if key.required else _said(key, key.default), None, variable,
            )  # fmt: skip


def _source(told: str) -> tuple[str, str, str]:
    """Short words, the place in full, and the variable of the environment."""
    if told == DEFAULT:
        return DEFAULT, "", ""
    if told.startswith("environment ("):
        return "environment", told, told.removeprefix("environment (").removesuffix(")")
    return clean(Path(told).name), clean(short(Path(told))), ""


def short(path: Path) -> str:
    """A path as its user writes it: from `~` on where it lies in their home directory."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)


def _said(key: Key, value: object) -> str:
    """A value as it is read, without quotes and brackets."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | Mapping | str) and not value:
        return "empty" if isinstance(value, str) else "none"
    if is_secret(key):
        return clean(", ".join(str(part) for part in key.shown(value)))  # type: ignore[attr-defined]
    return clean(as_typed(key, value))


def kind_of(key: Key) -> Kind:
    """How a setting is edited."""
    plain = _plain(key.type)
    if plain is bool or key.choices:
        return "choice"
    if plain in {int, float}:
        return "number"
    if plain is str:
        return "text"
    return "list" if get_origin(plain) is tuple else "table"


def choices_of(key: Key) -> list[tuple[str, object]]:
    """The values to choose from, with their words."""
    if key.choices:
        return [(choice, choice) for choice in key.choices]
    return [("true", True), ("false", False)]


def _plain(kind: Any) -> Any:
    """A type without its limits, and without None."""
    while hasattr(kind, "__metadata__"):
        kind = kind.__origin__
    parts = [part for part in get_args(kind) if part is not type(None)]
    if type(None) in get_args(kind) and len(parts) == 1:
        return _plain(parts[0])
    return kind


def is_secret(key: Key) -> bool:
    """Whether its value is never shown, also not while it is typed."""
    return key.dotted == NOTIFY_URLS


def as_typed(key: Key, value: object) -> str:
    """A value as it stands in the line to be changed; a secret is typed anew."""
    if value is None or is_secret(key):
        return ""
    if isinstance(value, Mapping):
        return toml_value(value).removeprefix("{").removesuffix("}").strip()
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value)
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def typed(key: Key, text: str) -> object:
    """The value that a text means, None for a setting that is not to be set. Raises ValueWrong."""
    text = text.strip()
    if not text and key.default is None:
        return None
    value = _typed(key, text)
    trouble = trouble_with(key, value)
    if trouble:
        raise ValueWrong(trouble)
    return value


def _typed(key: Key, text: str) -> object:
    kind = kind_of(key)
    if kind == "number":
        return _number(key, text)
    if kind == "list":
        parts = text.split() if is_secret(key) else [part.strip() for part in text.split(",")]
        return [part for part in parts if part]
    if kind == "table":
        try:
            return tomllib.loads(f"t = {{ {text} }}")["t"]
        except tomllib.TOMLDecodeError as error:
            raise ValueWrong('allowed is name = value, set apart by commas; a name with blanks in "quotes"') from error
    return text


def _number(key: Key, text: str) -> int | float:
    digits = text.removeprefix("$").replace("_", "")
    try:
        number = float(digits)
        return int(digits) if _plain(key.type) is int or digits.isdecimal() else number
    except ValueError as error:
        raise ValueWrong(f"allowed is {key.allowed}") from error
