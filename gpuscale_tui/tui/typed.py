"""Commands that are typed, after `:` or in the palette: `queue failed`, `logs 42`, `theme dusk`, `q`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gpuscale_tui.model.jobs import parse_label
from gpuscale_tui.tui.actions import SCREENS

LISTED = ("queue", "workers", "market", "events", "settings", "checkpoints", "costs")
"""Screens that a filter may follow."""

OF_JOBS: Mapping[str, str] = MappingProxyType({"job": "the page of", "logs": "the output of"})
PLAIN: Mapping[str, str] = MappingProxyType(
    {
        "q": "quit",
        "quit": "quit",
        "help": "help",
        "messages": "messages",
        "new": "job.new",
        "stop": "spend.stop",
        "undo": "undo",
    }
)
"""Commands that are another word for an action."""


@dataclass(frozen=True, slots=True)
class Command:
    """One typed command: `kind` is screen, filter, job, worker, logs, theme or action; `name` and `rest` its words."""

    kind: str
    name: str
    rest: str = ""

    @property
    def id(self) -> str:
        """As the palette returns it."""
        return f"typed:{self.kind}:{self.name}:{self.rest}"


def parse(line: str) -> Command | None:
    """What a line asks for, None when it is no whole command."""
    word, _, rest = line.strip().removeprefix(":").strip().partition(" ")
    word, rest = word.casefold(), rest.strip()
    if word in PLAIN and not rest:
        return Command("action", PLAIN[word])
    if word in {"job", "logs"} and (number := parse_label(rest, "j")) is not None:
        return Command(word, str(number))
    if word == "worker" and (number := parse_label(rest, "w")) is not None:
        return Command("worker", str(number))
    if word == "theme" and rest:
        return Command("theme", rest)
    if word in SCREENS and not rest:
        return Command("screen", word)
    return Command("filter", word, rest) if word in LISTED and rest else None


def read(entry_id: str) -> Command:
    """The command of an id that the palette returned."""
    _, kind, name, rest = entry_id.split(":", 3)
    return Command(kind, name, rest)


def words_of(command: Command) -> str:
    """What it does."""
    if command.kind == "filter":
        return f"the screen {command.name}, filtered: {command.rest}"
    if command.kind in OF_JOBS:
        return f"{OF_JOBS[command.kind]} j{command.name}"
    if command.kind == "worker":
        return f"the page of w{command.name}"
    return "the colours" if command.kind == "theme" else f"the screen {command.name}"


def completions(line: str, themes: Iterable[str], fields: Mapping[str, Collection[str]]) -> list[str]:
    """Whole lines that this one may become: commands by their beginning, themes, fields of a screen's filter."""
    text = line.lstrip().removeprefix(":")
    word, blank, rest = text.partition(" ")
    word = word.casefold()
    if not blank:
        known = [*SCREENS, "job", "worker", "theme", *PLAIN]
        found = [name for name in known if word and name.startswith(word) and name != word]
        return [name + ("" if name in PLAIN else " ") for name in found]
    if word == "theme":
        return [f"theme {name}" for name in themes if name.startswith(rest.strip()) and name != rest.strip()]
    last = rest.rsplit(" ", 1)[-1]
    if word not in fields or not last.isalpha():
        return []
    head = text[: len(text) - len(last)]
    return [f"{head}{name}:" for name in fields[word] if name.startswith(last.casefold())]
