"""What verbs share: options, ids, the store, the engine's presence."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click
from click.shell_completion import CompletionItem

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.store.home import Home

if TYPE_CHECKING:
    from gpuscale_tui.config import Loaded
    from gpuscale_tui.model.settings import Settings
    from gpuscale_tui.store.database import Database

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
P = ParamSpec("P")

NO_ENGINE_NOTE = "no engine runs: start one with `gpuscale` or `gpuscale --autopilot`"


def now_ms() -> int:
    """UTC milliseconds."""
    return time.time_ns() // 1_000_000


def user_name() -> str:
    """Who asks, for the audit log."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return f"uid {os.getuid()}"


def _home(ctx: click.Context, _: click.Parameter, value: str | None) -> Home:
    outer = ctx.parent and ctx.find_root().params.get("home")
    if value is None and isinstance(outer, Home):
        return outer
    return Home.locate(value, os.environ)


def _config(ctx: click.Context, _: click.Parameter, value: Path | None) -> Path | None:
    outer = ctx.parent and ctx.find_root().params.get("config")
    return outer if value is None and isinstance(outer, Path) else value


home_option: Callable[[F], F] = click.option(
    "--home",
    metavar="DIR",
    callback=_home,
    help="The data directory (else $GPUSCALE_HOME, else your platform's).",
)
config_option: Callable[[F], F] = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    callback=_config,
    help="The settings (else $GPUSCALE_CONFIG, else your platform's config.toml).",
)
json_option: Callable[[F], F] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def verb(*, example: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A command whose help ends with an example."""
    settings.setdefault("context_settings", {"help_option_names": ["-h", "--help"], "max_content_width": 100})
    lines = "\n".join(f"  {line}" for line in example.splitlines())
    return click.command(epilog=f"\b\nExample:\n{lines}", **settings)


class LabelType(click.ParamType[int]):
    """An id as people type it: `j17`, `J17` or `17`. `known` lists ids and what they stand for, for completion."""

    name = "id"

    def __init__(
        self, letter: str, thing: str, known: Callable[[sqlite3.Connection], Iterable[tuple[str, str]]]
    ) -> None:
        self._letter = letter
        self._thing = thing
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number. Fails for what names nothing of this kind."""
        if isinstance(value, int):
            return value
        from gpuscale_tui.model.jobs import parse_label

        number = parse_label(value, self._letter)
        if number is None:
            self.fail(f"{value!r} is no {self._thing}, such as {self._letter}17", param, ctx)
        return number

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Ids that begin so, newest first. A store that cannot be read completes nothing."""
        home = ctx.params.get("home")
        if not isinstance(home, Home) or not home.database.exists():
            return []
        try:
            known = read(home, self._known)
        except (GpuscaleError, sqlite3.Error):
            return []
        from gpuscale_tui.model.plain import clean  # a shell prints it as it is

        return [
            CompletionItem(label, help=clean(what)) for label, what in known if label.startswith(incomplete.lower())
        ]


def _jobs(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    from gpuscale_tui.store import queries

    rows = queries.job_rows(connection, sort="id", descending=True, limit=100)
    return [(row.label, f"{row.state} {row.name}") for row in rows]


def _workers(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    from gpuscale_tui.store import queries

    return [(row.label, f"{row.state} {row.gpu_type or ''}") for row in queries.worker_rows(connection)]


JOB_ID = LabelType("j", "job", _jobs)
WORKER_ID = LabelType("w", "worker", _workers)


def load_settings(config: Path | None) -> Loaded:
    """The settings with their sources. Raises ConfigError."""
    from gpuscale_tui.config import load

    return load(config, os.environ)


def settings_of(config: Path | None) -> Settings:
    """The settings; what is odd about them is told on stderr. Raises ConfigError."""
    loaded = load_settings(config)
    for warning in loaded.warnings:
        note(f"warning: {warning}")
    return loaded.settings


def note(text: str) -> None:
    """Tell something beside the result."""
    from gpuscale_tui.cli.formatting import clean_lines

    click.echo(clean_lines(text), err=True)


def read(home: Home, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Ask the store something, in one state of the data. Raises StoreError.

    A home that was never used reads as an empty store and is not created.
    """
    from gpuscale_tui.store.database import in_snapshot

    with contextlib.closing(open_store(home)) as connection:
        return in_snapshot(connection, query, *args, **kwargs)


def open_store(home: Home) -> sqlite3.Connection:
    """The store, for reading only; to be closed by the caller. Raises StoreError."""
    from gpuscale_tui.store.database import SCHEMA, connect

    journal = home.database.with_name(home.database.name + "-wal")
    if home.database.exists() or journal.exists():
        return connect(home.database, readonly=True)
    from gpuscale_tui.store.opening import migrate

    note(f"nothing was ever stored in {home.path}")
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    migrate(connection, SCHEMA)
    return connection


@contextlib.contextmanager
def writing(home: Home) -> Iterator[Database]:
    """The store, to change; the home is made at first use. Raises StoreError."""
    from gpuscale_tui.store.database import Database

    home.ensure()
    with Database(home.database) as database:
        yield database


def engine_alive(home: Home) -> bool:
    """Whether an engine runs for this home now, told by its lock."""
    from gpuscale_tui.engine.lock import running_engine

    return running_engine(home) is not None


def wake(home: Home, *, needed: bool = True) -> None:
    """Let the engine notice at once; where none runs and one is needed, say so."""
    from gpuscale_tui.engine.doorbell import ring

    if engine_alive(home):
        ring(home)
    elif needed:
        note(NO_ENGINE_NOTE)


def unknown_job(job_id: int) -> str:
    """What is said of an id that no job has."""
    from gpuscale_tui.model.jobs import job_label

    return f"there is no job {job_label(job_id)}; `gpuscale queue --all` lists them"
