"""The addresses that notices go to, from the settings: written there, in the environment, or in a file of one's own."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gpuscale_tui.model.settings import Settings

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://")
LONGEST = 4096


@dataclass(frozen=True, slots=True)
class Address:
    """One entry of `notify.urls`: its URL, which is a secret, or what is wrong with the entry.

    `label` is fit to be shown. `digest` tells it from others without telling it.
    """

    label: str
    url: str = field(repr=False)
    problem: str = ""

    @property
    def digest(self) -> str:
        """A name for it in the store."""
        return hashlib.sha256(self.url.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def addresses(settings: Settings, environ: Mapping[str, str]) -> list[Address]:
    """Every entry of `notify.urls`, read now: a file or a variable may have changed. Blocking file I/O."""
    return [_address(number, entry, environ) for number, entry in enumerate(settings.notify.urls, 1)]


def readable(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """The URLs that could be read."""
    return [address.url for address in addresses(settings, environ) if address.url]


def _address(number: int, entry: str, environ: Mapping[str, str]) -> Address:
    name = f"notify.urls {number}"
    kind, _, rest = entry.partition(":")
    if kind == "env":
        url, problem = environ.get(rest, "").strip(), f"the environment has no {rest}"
    elif kind == "file":
        url, problem = _in_file(Path(rest).expanduser())
    else:
        url, problem = entry.strip(), ""
    if not url:
        return Address(name, "", problem)
    scheme = SCHEME.match(url)
    if scheme is None or len(url) > LONGEST or not url.isprintable():
        return Address(name, "", "this is no address such as slack://... or mailtos://...")
    return Address(f"{name} ({scheme[1].lower()})", url)


def _in_file(path: Path) -> tuple[str, str]:
    """The first line of a file that only its owner can read, or what is wrong with it."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return "", f"{path} is no file"
            if status.st_mode & 0o077:
                return "", f"others can read {path}: chmod 600 {path}"
            lines = file.read(LONGEST + 1).decode("utf-8").strip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return "", f"{path} cannot be read ({getattr(error, 'strerror', None) or 'no UTF-8'})"
    return (lines[0].strip(), "") if lines else ("", f"{path} is empty")
