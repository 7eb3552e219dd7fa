"""What a user chose of the looks of the lists: order, columns, past filters. Kept in the home as `screen.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gpuscale_tui.rights import private_opener

LARGEST_BYTES = 256 * 1024
MOST_TEXTS = 50
LONGEST = 500


@dataclass(frozen=True, slots=True)
class Choice:
    """Of one list: what it is sorted by (empty: by default), which columns in which order, filters of the past."""

    sort: str = ""
    descending: bool = False
    columns: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    """The last one first."""


@dataclass(slots=True)
class Kept:
    """The choices by list. `path` is read once, when the first is asked for, and written as a whole."""

    path: Path
    _choices: dict[str, Choice] | None = field(default=None)
    warning: str = ""
    """Why the file was not used; empty when it was, or when there is none."""

    def of(self, name: str) -> Choice:
        """What was chosen for a list."""
        return self._all().get(name, Choice())

    def put(self, name: str, choice: Choice) -> None:
        """Choose something else; `save` writes it."""
        self._all()[name] = choice

    def text(self) -> str:
        """What the file is to say."""
        return json.dumps({name: asdict(choice) for name, choice in self._all().items()}, indent=1) + "\n"

    def save(self, text: str) -> None:
        """Write the file, whole or not at all. Raises OSError."""
        draft = self.path.with_name(f".{self.path.name}-{os.getpid()}")
        try:
            with open(draft, "w", encoding="utf-8", opener=private_opener) as file:
                file.write(text)
            draft.replace(self.path)
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def _all(self) -> dict[str, Choice]:
        if self._choices is None:
            self._choices = {}
            try:
                self._choices = _read(self.path)
            except FileNotFoundError:
                pass
            except (OSError, ValueError) as error:
                self.warning = f"{self.path} is not used: {error}"
        return self._choices


def _read(path: Path) -> dict[str, Choice]:
    """Raises OSError, and ValueError for anything that this program would not have written."""
    with path.open("rb") as file:
        content = file.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise ValueError("it is too large")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is no JSON") from error
    if not isinstance(found, dict):
        raise ValueError("it is no table of lists")  # noqa: TRY004 - it is the file that is wrong
    return {str(name): _choice(str(name), value) for name, value in found.items()}


def _choice(name: str, value: object) -> Choice:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name!r} is no table")  # noqa: TRY004 - it is the file that is wrong
    sort, descending = value.get("sort", ""), value.get("descending", False)
    if not isinstance(sort, str) or not isinstance(descending, bool):
        raise ValueError(f"the order of {name!r} is none")  # noqa: TRY004 - it is the file that is wrong
    return Choice(sort, descending, _texts(name, value.get("columns", [])), _texts(name, value.get("filters", [])))


def _texts(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) and len(text) <= LONGEST for text in value):
        raise ValueError(f"a list of texts of {name!r} is none")
    return tuple(value[:MOST_TEXTS])
