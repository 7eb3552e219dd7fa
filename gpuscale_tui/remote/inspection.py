"""What a machine can say of its files by itself: their hashes, and which programs it has for such work."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import TransferError
from gpuscale_tui.remote.names import READ_NAMES, batches, lines
from gpuscale_tui.remote.paths import check_directory, check_storable
from gpuscale_tui.remote.scripts import compact

TOOLS = ("sha256sum", "shasum", "openssl", "rsync", "zstd", "curl", "wget", "git", "python3", "truncate")
HASH_SEC = 3600
TOOLS_SEC = 30
HASH = re.compile(r"[0-9a-f]{64}")

SUM = """
if command -v sha256sum >/dev/null; then sum() { sha256sum; }
elif command -v shasum >/dev/null; then sum() { shasum -a 256; }
elif command -v openssl >/dev/null; then sum() { openssl dgst -sha256 -r; }
else sum() { :; }
fi
"""
"""Defines `sum`: the SHA-256 of stdin as the first word of a line, or nothing where there is no tool for it."""

# $2 the directory; stdin: names. One line a name: its hash, or nothing. Hashing stdin keeps names out of the answer.
HASHES = compact(
    f"""
echo gpuscale:begin
cd && cd "./$2" || exit 3
{SUM}
{READ_NAMES}
for name; do
  hash=
  if [ -f "$name" ]; then hash=$(sum < "$name"); fi
  echo "${{hash%% *}}"
done
"""
)

_TOOLS = f'for tool in {" ".join(TOOLS)}; do command -v "$tool" >/dev/null && echo "$tool"; done; exit 0'


async def hashes(machine: Machine, remote_dir: str, paths: Sequence[str]) -> Mapping[str, str]:
    """SHA-256 in hex of files below `remote_dir`, computed by the machine: a claim of its own.

    Without those that are not there, and empty where the machine has no tool for it. Raises TransferError (no such
    directory, a path that cannot be), Unreachable.
    """
    check_directory(remote_dir)
    for path in paths:
        check_storable(path)
    found: dict[str, str] = {}
    for batch in batches(tuple(dict.fromkeys(paths)), str):
        done = await machine.run_command(
            machine.command(HASHES, remote_dir), stdin=lines(batch), timeout_sec=HASH_SEC, label="hashing files"
        )
        if done.exit_status == 3:
            raise TransferError(f"{machine.where}: there is no directory {remote_dir}")
        said = done.stdout.decode("ascii", "replace").split("\n")
        found |= {path: word for path, word in zip(batch, said, strict=False) if HASH.fullmatch(word)}
    return found


async def tools(machine: Machine) -> frozenset[str]:
    """Those of TOOLS that the machine has. Raises Unreachable."""
    done = await machine.run(_TOOLS, timeout_sec=TOOLS_SEC, label="asking for its programs")
    return frozenset(done.stdout.decode("ascii", "replace").split()) & frozenset(TOOLS)
