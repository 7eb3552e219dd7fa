"""Drafts outlive the form, the program and kill -9: a private file in the home, replaced whole, without secrets."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuscale_tui.rights import private_opener
from gpuscale_tui.tui.draft import NAMES, secret_names, without_secrets

VERSION = 1
MOST = 20
"""Drafts that are kept, the newest."""
LARGEST = 1_000_000
"""Bytes of the file that are read: it is ours, and never as large."""


@dataclass(frozen=True, slots=True)
class KeptDraft:
    """What was written in a form, when (UTC ms), and the names of the secrets whose values are gone."""

    texts: Mapping[str, str]
    at: int
    lost: tuple[str, ...] = ()


class Drafts:
    """The drafts in a file, by what their forms are about. `load` and `save_latest` block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[str, KeptDraft] = {}
        self._writing = threading.Lock()
        self._saved = ""
        self.loaded = False

    @property
    def path(self) -> Path:
        """Where they are."""
        return self._path

    def load(self) -> None:
        """Read them once. A file that makes no sense is as good as none: drafts are worth less than a start."""
        self.loaded = True
        try:
            with self._path.open("rb") as file:
                content = json.loads(file.read(LARGEST))
            for key, each in content["drafts"].items():
                self._kept.setdefault(key, _kept(each))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return

    def get(self, key: str) -> KeptDraft | None:
        """One draft."""
        return self._kept.get(key)

    def put(self, key: str, texts: Mapping[str, str], at: int) -> None:
        """Keep a draft in memory, secrets and all; `save_latest` makes it last without them."""
        self._kept.pop(key, None)
        self._kept[key] = KeptDraft(dict(texts), at)
        while len(self._kept) > MOST:
            self._kept.pop(next(iter(self._kept)))

    def drop(self, key: str) -> bool:
        """Forget a draft; whether there was one."""
        return self._kept.pop(key, None) is not None

    def text(self) -> str:
        """What the file says: no value of a secret is in it."""
        drafts = {key: _stored(each) for key, each in list(self._kept.items())}
        return json.dumps({"version": VERSION, "drafts": drafts}, indent=1)

    def save_latest(self) -> None:
        """Replace the file by what is kept now, if that is anything else; from any thread. Raises OSError."""
        with self._writing:
            text = self.text()
            if text == self._saved:
                return
            part = self._path.with_name(f".{self._path.name}-{os.getpid()}")
            part.unlink(missing_ok=True)
            try:
                with open(part, "x", encoding="utf-8", opener=private_opener) as file:
                    file.write(text)
                part.replace(self._path)
            finally:
                part.unlink(missing_ok=True)
            self._saved = text


def _stored(each: KeptDraft) -> dict[str, object]:
    """A draft without secrets: also those that were just typed among the variables that are shown."""
    shown = {name: value for name, value in each.texts.items() if name not in {"secret", "env"}}
    names = dict.fromkeys([*each.lost, *secret_names(each.texts)])
    return {"at": each.at, "texts": {**shown, "env": without_secrets(each.texts["env"])}, "secrets": list(names)}


def _kept(each: Mapping[str, object]) -> KeptDraft:
    texts, names, at = each["texts"], each["secrets"], each["at"]
    if not (isinstance(texts, dict) and isinstance(names, list) and isinstance(at, int)):
        raise TypeError("no draft")
    known = {name: str(texts.get(name, "")) for name in NAMES}
    lost = tuple(str(name) for name in names)
    return KeptDraft({**known, "secret": " ".join(f"{name}=" for name in lost)}, at, lost)
