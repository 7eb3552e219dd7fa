"""What can go wrong between us and a machine, told apart by what the caller may conclude from it."""

from __future__ import annotations

EXCERPT_CHARS = 2_000


class RemoteError(Exception):
    """Something went wrong while a machine was worked; the message names the machine, the reason and the way out."""


class Unreachable(RemoteError):
    """No connection, no answer in time, or the connection was lost.

    It says nothing about whether the machine, or what runs on it, is gone: connect again and ask.
    """


class NoSession(Unreachable):
    """The server opens no further session on this connection now; those that are open go on."""


class AuthRefused(RemoteError):
    """The machine refused our key, or the key could not be used."""


class HostKeyChanged(RemoteError):
    """The machine showed another host key than the pinned one: another machine, or someone in between."""


class RemoteCommandFailed(RemoteError):
    """A command of ours ended with a non-zero status on the machine.

    `stderr_excerpt` comes from the machine and is untrusted: clean it before showing it.
    """

    def __init__(self, where: str, command_label: str, exit_status: int, stderr_excerpt: str) -> None:
        self.command_label = command_label
        self.exit_status = exit_status
        self.stderr_excerpt = stderr_excerpt[:EXCERPT_CHARS]
        said = f": {self.stderr_excerpt}" if self.stderr_excerpt else " and said nothing"
        super().__init__(f"{where}: {command_label} ended with status {exit_status}{said}")


class TransferError(RemoteError):
    """Files could not be moved, or what came was not what was asked for."""


class AttemptVanished(RemoteError):
    """The attempt was started, but neither a live process nor an exit status of it exists.

    The machine restarted, or someone killed runner and command together. It will not come back.
    """


class NotStarted(RemoteError):
    """The attempt was never started on this machine."""


class AttemptRunning(RemoteError):
    """Refused because the attempt is still running: stop it first."""


class LaunchRefused(ValueError):
    """A command or environment that could not be handed over exactly; the message says which part and why."""
