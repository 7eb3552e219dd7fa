"""The home: the directory that keeps everything one engine remembers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """The data directory and the places in it. Directories are 0700, files 0600."""

    path: Path

    @classmethod
    def locate(cls, option: str | None, environ: Mapping[str, str]) -> Home:
        """`--home`, else `$GPUSCALE_HOME`, else the platform's user data directory."""
        chosen = option or environ.get("GPUSCALE_HOME")
        if chosen:
            return cls(Path(chosen).expanduser().absolute())
        from platformdirs import user_data_path

        return cls(user_data_path("gpuscale", appauthor=False))

    @property
    def database(self) -> Path:
        """Jobs, workers, events, money."""
        return self.path / "gpuscale.db"

    @property
    def logs(self) -> Path:
        """The jobs' output, apart from the rest so that old logs can be dropped."""
        return self.path / "logs.db"

    @property
    def checkpoints(self) -> Path:
        """Snapshots of checkpoint directories, unless the settings name another place."""
        return self.path / "checkpoints"

    @property
    def client_key(self) -> Path:
        """Our private SSH key."""
        return self.path / "keys" / "id_ed25519"

    @property
    def secrets(self) -> Path:
        """Secret environment values of jobs, one 0600 file a job."""
        return self.path / "secrets"

    @property
    def providers(self) -> Path:
        """What providers themselves must remember."""
        return self.path / "providers"

    @property
    def lock(self) -> Path:
        """Held by the one engine of this home."""
        return self.path / "engine.lock"

    @property
    def doorbell(self) -> Path:
        """Datagram socket that wakes the engine sooner; nothing depends on it."""
        return self.path / "engine.sock"

    @property
    def engine_log(self) -> Path:
        """What a background engine prints."""
        return self.path / "engine.log"

    def ensure(self) -> None:
        """Make the directories, private to the user. Raises OSError where that is impossible."""
        for directory in (self.path, self.client_key.parent, self.secrets, self.providers, self.checkpoints):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)


def private_opener(path: str, flags: int) -> int:
    """An opener for `open` that makes files 0600 whatever the umask."""
    return os.open(path, flags, 0o600)
