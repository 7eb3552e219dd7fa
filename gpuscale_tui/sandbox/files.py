"""File transfer of a machine: SFTP (and scp) inside the machine's own directory, under the paths its shell sees."""

from __future__ import annotations

import os
from pathlib import Path

import asyncssh


class MachineFiles(asyncssh.SFTPServer):
    """An SFTP server whose home is the machine's directory and which lets nothing out of it, links included."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], home: Path) -> None:
        super().__init__(channel)
        self._home = home.resolve()

    def map_path(self, path: bytes) -> bytes:
        """The local path of a client's path. Raises SFTPPermissionDenied outside the machine's directory."""
        local = Path(os.path.normpath(self._home / os.fsdecode(path)))
        holder = local if local == self._home else local.parent
        if not all(place.is_relative_to(self._home) for place in (local, holder.resolve(), local.resolve())):
            raise asyncssh.SFTPPermissionDenied("outside this machine's directory")
        return os.fsencode(local)

    def reverse_map_path(self, path: bytes) -> bytes:
        """Paths are shown as they are."""
        return path
