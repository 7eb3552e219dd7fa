"""How snapshots travel between a machine and where they are kept: a port, so that the saver need not know which way.

`LocalDepot` carries them through this computer; another depot may let the machine itself send them elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gpuscale_tui.remote.site import Site
from gpuscale_tui.remote.transfer import RemoteFile, RemoteListing
from gpuscale_tui.store.checkpoints import FileEntry, Snapshot, SnapshotMeta


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as the last snapshot of this attempt has it: while its `stamp` on the machine stays the same, its content
    is `entry` and need not be read again."""

    stamp: str
    entry: FileEntry


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a try to take a snapshot.

    `snapshot` is None when files were torn: then nothing was kept. `seen`: each file that is in it, by path, for the
    next one. `torn`: paths that their own format says are cut off, or that were `suspects` whose format nobody knows,
    each with the reason. `stored`: bytes that it added.
    """

    snapshot: Snapshot | None
    seen: Mapping[str, Seen] = field(default_factory=dict)
    torn: tuple[tuple[str, str], ...] = ()
    stored: int = 0


class Depot(Protocol):
    """Takes snapshots of a directory on a machine and puts them back."""

    async def take(  # noqa: PLR0917 - what, where from, where to
        self,
        site: Site,
        directory: str,
        listing: RemoteListing,
        files: Sequence[RemoteFile],
        meta: SnapshotMeta,
        known: Mapping[str, Seen],
        *,
        suspects: Collection[str] = (),
    ) -> Taken | None:
        """Make a snapshot of `files`, chosen of `listing`; None when one of them changed meanwhile.

        What is `known` and has the same stamp is not read again. `suspects` may be cut off: they are taken only when
        their format says that they are whole. Raises Unreachable, TransferError, SnapshotError or OSError.
        """
        ...

    async def put_back(self, site: Site, directory: str, snapshot: Snapshot) -> None:
        """Let `directory` on the machine hold exactly the snapshot's files.

        Raises Unreachable, TransferError, SnapshotError or OSError.
        """
        ...
