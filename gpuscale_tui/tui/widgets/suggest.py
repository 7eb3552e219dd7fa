"""Completion of a filter: the names of fields, and the values of those that have a few."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from textual.suggester import Suggester

from gpuscale_tui.model.query import FieldKind


class FieldSuggester(Suggester):
    """Completes the last word of a filter."""

    def __init__(self, fields: Mapping[str, FieldKind]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._fields = fields

    async def get_suggestion(self, value: str) -> str | None:
        """The whole line with its last word completed, None where there is nothing to add."""
        return completed(value, self._fields)


def completed(line: str, fields: Mapping[str, FieldKind]) -> str | None:
    """A line with its last word completed: `st` to `status:`, `status:fa` to `status:failed`, `fa` to `failed`."""
    if not line or line[-1].isspace() or line.count('"') % 2:
        return None
    word = line.rsplit(maxsplit=1)[-1].removeprefix("!")
    name, colon, typed = word.partition(":")
    if colon:
        kind = fields.get(name)
        begun = typed.rpartition(",")[2]
        found = _begins(kind.words, begun) if kind is not None and begun else None
        return None if found is None else line + found[len(begun) :]
    states = [state for kind in fields.values() if kind.bare and not kind.of for state in kind.words]
    names = [f"{field}:" for field, kind in fields.items() if not kind.of and kind.kind in {"text", "word", "label"}]
    others = [f"{field}>" for field, kind in fields.items() if not kind.of and f"{field}:" not in names]
    found = _begins([*states, *names, *others], word) if word else None
    return None if found is None else line + found[len(word) :]


def _begins(known: Iterable[str], begun: str) -> str | None:
    return next((each for each in known if each.startswith(begun) and each != begun), None)
