"""The whole form in the user's own editor: a private file that is gone afterwards."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from shutil import which

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.rights import private_opener

FALLBACKS = ("nano", "vim", "vi")
LARGEST = 4_000_000


class EditorError(GpuscaleError):
    """No editor, or one that failed: what was written before stays as it is."""


def command_of(environ: Mapping[str, str]) -> list[str]:
    """The words that start the user's editor. Raises EditorError."""
    named = environ.get("VISUAL") or environ.get("EDITOR") or ""
    try:
        words = shlex.split(named)
    except ValueError as error:
        raise EditorError(f"$VISUAL or $EDITOR cannot be read: {error}") from error
    if words:
        return words
    found = next((name for name in FALLBACKS if which(name)), None)
    if found is None:
        raise EditorError("no editor is known: set $VISUAL or $EDITOR")
    return [found]


def edit(text: str, directory: Path, environ: Mapping[str, str]) -> str:
    """Let the user change a text; returns what was saved. Blocks for as long as the editor is open.

    The file is private and removed whatever happens. Raises EditorError.
    """
    words = command_of(environ)
    path = directory / f"job-{os.getpid()}.toml"
    path.unlink(missing_ok=True)
    try:
        with open(path, "x", encoding="utf-8", opener=private_opener) as file:
            file.write(text)
        done = subprocess.run([*words, str(path)], check=False)
        if done.returncode:
            raise EditorError(f"{words[0]} ended with {done.returncode}: nothing was taken over")
        with path.open("rb") as saved:
            return saved.read(LARGEST).decode("utf-8-sig")
    except OSError as error:
        raise EditorError(f"{words[0]}: {error.strerror or error}: nothing was taken over") from error
    except UnicodeDecodeError as error:
        raise EditorError("what was saved is no UTF-8: nothing was taken over") from error
    finally:
        for left in (path, path.with_name(f"{path.name}~"), path.with_name(f".{path.name}.swp")):
            left.unlink(missing_ok=True)
