"""Files to and from a machine: what the engine calls, from the modules that do it."""

from __future__ import annotations

from gpuscale_tui.remote.download import get_files
from gpuscale_tui.remote.inspection import hashes, tools
from gpuscale_tui.remote.listing import list_tree
from gpuscale_tui.remote.tree import FetchedFile, RemoteFile, RemoteListing, TreeFile, local_tree
from gpuscale_tui.remote.upload import put_tree
from gpuscale_tui.remote.workdir import Workdir, WorkdirError, WorkdirTooLarge, select_workdir

__all__ = [
    "FetchedFile",
    "RemoteFile",
    "RemoteListing",
    "TreeFile",
    "Workdir",
    "WorkdirError",
    "WorkdirTooLarge",
    "get_files",
    "hashes",
    "list_tree",
    "local_tree",
    "put_tree",
    "select_workdir",
    "tools",
]
