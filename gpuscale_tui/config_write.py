"""Changing settings: into settings.toml beside the user's config.toml, which itself is never written.

A change is checked as a whole before it is kept: what `config.load` would refuse never reaches the file. The file is
replaced by rename, so that a reader sees the old one or the new one, and writers take turns.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from gpuscale_tui.config import SETTINGS_NAME, ConfigError, Loaded, Problem, config_path, load
from gpuscale_tui.config_keys import NOTIFY_URLS

LOCK_SEC = 5.0
_LOCK_LOOK_SEC = 0.02
_HEAD = """\
# Written by the settings screen of gpuscale. What stands here wins over config.toml beside it, which the program
# never writes; comments of your own would be lost here with the next change.

"""


class Absent(Enum):
    """Stands for a key that settings.toml does not have."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT


@dataclass(frozen=True, slots=True)
class Written:
    """What a change led to: the settings as they are now, and the changes that would undo it."""

    loaded: Loaded
    undo: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Files:
    """The files of the settings, as a program was told of them: `--config` or None, and its environment."""

    option: Path | None
    environ: Mapping[str, str]

    @property
    def config(self) -> Path:
        """The user's config.toml."""
        return config_path(self.option, self.environ)

    @property
    def settings(self) -> Path:
        """What is written here."""
        return settings_path(self.option, self.environ)

    def read(self) -> Loaded:
        """Read and check. Raises ConfigError."""
        return load(self.option, self.environ)

    def change(self, changes: Mapping[str, object]) -> Written:
        """As `change`."""
        return change(self.option, self.environ, changes)


def settings_path(option: str | Path | None, environ: Mapping[str, str]) -> Path:
    """Where settings.toml is."""
    return config_path(option, environ).with_name(SETTINGS_NAME)


def change(option: str | Path | None, environ: Mapping[str, str], changes: Mapping[str, object]) -> Written:
    """Set these dotted keys in settings.toml, or with ABSENT take them out: all of them or none.

    Values are as TOML has them: a list of hosts is a list of tables. Blocks for LOCK_SEC at most while another writes.
    Raises ConfigError when the result would be refused, OSError when it cannot be written; the file is as before then.
    """
    path = settings_path(option, environ)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(path.parent):
        document = _document(path)
        undo = {key: _swap(document, key.split("."), value) for key, value in changes.items()}
        content = _text(document)
        loaded = load(option, environ, settings=content)
        _replace(path, content, private=_has_secrets(document))
    return Written(loaded, dict(reversed(undo.items())))


def _document(path: Path) -> dict[str, Any]:
    """What the file says now. Raises ConfigError: a file that somebody has spoilt is not written over."""
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        return {}
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([Problem(str(path), "", f"no valid TOML: {error}", "")]) from error


def _swap(table: dict[str, Any], names: list[str], value: object) -> object:
    """Put a value in its place, or take it out, with tables that are empty then; returns what was there."""
    name, *rest = names
    if not rest:
        before = table.pop(name, ABSENT)
        if value is not ABSENT:
            table[name] = _plain(value)
        return before
    inner = table.setdefault(name, {})
    if not isinstance(inner, dict):
        raise ConfigError([Problem(SETTINGS_NAME, name, "a value", f"a table: [{name}]")])
    before = _swap(inner, rest, value)
    if not inner:
        del table[name]
    return before


def _plain(value: object) -> object:
    """A value in the types that are written: settings have tuples and read-only mappings."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items() if part is not None}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return value


def _text(document: Mapping[str, Any]) -> bytes:
    import tomli_w

    return (_HEAD + tomli_w.dumps(document)).encode()


def _has_secrets(document: Mapping[str, Any]) -> bool:
    table, _, name = NOTIFY_URLS.partition(".")
    return bool(document.get(table, {}).get(name))


def _replace(path: Path, content: bytes, *, private: bool) -> None:
    """Write a file anew under another name and rename it; where `path` is a link, what it leads to is replaced."""
    path = path.resolve()
    mode = _mode_of(path)
    rights = mode & ~0o077 if private else mode
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), rights)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _mode_of(path: Path) -> int:
    """The rights that the file has; its user's alone where it is new."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return 0o600


def _sync(directory: Path) -> None:
    """Make a rename outlive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Nobody else changes the settings meanwhile: a lock on their directory, which leaves no file behind."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        _lock(descriptor, directory)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, directory: Path) -> None:
    until = time.monotonic() + LOCK_SEC
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise TimeoutError(
                    f"somebody else has been writing settings in {directory} for {LOCK_SEC:g} s"
                ) from error
            time.sleep(_LOCK_LOOK_SEC)
        else:
            return
