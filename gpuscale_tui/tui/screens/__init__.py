"""One module a screen. `make` imports a screen's module when it is first shown."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textual.screen import Screen

PLACES = {
    "queue": "queue:QueueScreen",
    "workers": "workers:WorkersScreen",
    "costs": "costs:CostsScreen",
    "logs": "logs:LogsScreen",
    "checkpoints": "checkpoints:CheckpointsScreen",
    "market": "market:MarketScreen",
    "events": "events:EventsScreen",
    "settings": "settings:SettingsScreen",
}
"""The screens on number keys: module and class. A new screen is one module and one line here and in the actions."""


def make(name: str) -> Screen[Any]:
    """A screen by name."""
    module, _, kind = PLACES[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), kind)()  # type: ignore[no-any-return]
