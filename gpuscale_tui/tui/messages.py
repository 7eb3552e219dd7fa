"""Facts that parts of the screen tell each other: frozen, in the past tense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from textual.message import Message

from gpuscale_tui.store.views import Status

EngineKind = Literal["starting", "inside", "attached", "none"]


@dataclass(frozen=True, slots=True)
class EngineState:
    """Where the engine runs: in this process, in another one (`pid`), or nowhere, and what it says of itself."""

    kind: EngineKind
    pid: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was read in one moment: the truth of the header, and what one screen wanted.

    `taken_at` is UTC ms. `owner` is the screen that wanted `content` (from the store) and `output` (from the log
    file); both are None when it wanted nothing. `error` says why the store could not be read: the rest is older then.
    """

    taken_at: int
    status: Status | None
    engine: EngineState
    owner: object = None
    content: object = None
    output: object = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """A message that was shown for a while. `at` is UTC ms."""

    at: int
    severity: str
    text: str


class RowPointed(Message):
    """The cursor of a table came to another row, or its row changed."""

    def __init__(self, row: object) -> None:
        super().__init__()
        self.row = row


class RowOpened(Message):
    """A row was opened by a double click."""

    def __init__(self, row: object) -> None:
        super().__init__()
        self.row = row


class ColumnChosen(Message):
    """The title of a column was clicked."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


class FollowChanged(Message):
    """A log view began or ceased to stay at the end."""

    def __init__(self, following: bool) -> None:
        super().__init__()
        self.following = following
