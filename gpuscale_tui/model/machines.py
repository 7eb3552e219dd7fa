"""Where a machine is reached, and what of it is trusted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The SSH address of a worker.

    `host_key` is the pinned public key as one OpenSSH line (`ssh-ed25519 AAAA...`), None before first contact.
    `key_file` names a private key of the user's for hosts that they own; None means the home's own key.
    """

    host: str
    port: int = 22
    user: str = "root"
    host_key: str | None = None
    key_file: str | None = None
