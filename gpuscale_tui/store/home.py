"""The home: the directory that keeps everything one engine remembers."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuscale_tui import rights
from gpuscale_tui.rights import private_opener

__all__ = ["Home", "private_opener"]


@dataclass(frozen=True, slots=True)
class Home:
    """The data directory and the places in it. Directories are 0700, files 0600, but for a group's (see `rights`)."""

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
    def outputs(self) -> Path:
        """What jobs left in OUTPUT_DIR, by job and attempt."""
        return self.path / "outputs"

    @property
    def code(self) -> Path:
        """Repositories that jobs' code comes from."""
        return self.path / "code"

    @property
    def hashes(self) -> Path:
        """Hashes of local files, remembered (`filehashes`)."""
        return self.path / "hashes.db"

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
        """Make the directories: private to the user, or its group's where it is shared (see `rights`).

        Raises OSError where that is impossible.
        """
        shared = rights.is_shared(self.path)
        if not shared:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
        elif self.database.exists() and not self.database.stat().st_mode & stat.S_IWGRP:
            rights.hand_down(self.path)
        for directory in (self.client_key.parent, self.secrets, self.providers, self.checkpoints):
            rights.make_directory(directory)
