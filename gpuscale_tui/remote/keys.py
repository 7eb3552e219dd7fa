"""Our own SSH key: made at first use, kept in the home."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import asyncssh

from gpuscale_tui import rights
from gpuscale_tui.remote.errors import AuthRefused

KEY_COMMENT = "gpuscale"


def ensure_client_key(path: Path) -> str:
    """Make our ed25519 key pair at `path` unless it exists; the public line (`ssh-ed25519 AAAA... gpuscale`).

    The file has mode 0600 in a directory of mode 0700 (in a group's home: see `rights`) and appears whole or not at
    all. When two programs race, both use the one that came first. Raises AuthRefused when the file is there but is no
    usable key; OSError as it comes.
    """
    if not path.exists():
        _make_key(path)
    return _public_line(path)


def _make_key(path: Path) -> None:
    rights.make_directory(path.parent)
    key = asyncssh.generate_private_key("ssh-ed25519", comment=KEY_COMMENT)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes files of mode 0600
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(key.export_private_key())
            file.flush()
            os.fsync(file.fileno())
        rights.settle(draft)
        _publish(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _publish(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)  # unlike a rename, a link never replaces the key that another program made meanwhile
    except FileExistsError:
        return


def _public_line(path: Path) -> str:
    try:
        key = asyncssh.read_private_key(path)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise AuthRefused(
            f"{path} is not a usable private key ({error}); move it away and a new one is made at the next start"
        ) from error
    key.set_comment(KEY_COMMENT)
    return key.export_public_key("openssh").decode("ascii").strip()
