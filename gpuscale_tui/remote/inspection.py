"""What a machine can say of its files by itself: their hashes, and which programs it has for such work."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import TransferError
from gpuscale_tui.remote.names import READ_NAMES, batches, is_simple, lines
from gpuscale_tui.remote.paths import check_directory, check_storable
from gpuscale_tui.remote.scripts import compact

TOOLS = ("sha256sum", "shasum", "openssl", "rsync", "zstd", "curl", "wget", "git", "python3", "truncate")
HASH_SEC = 3600
TOOLS_SEC = 30
HASH = re.compile(r"[0-9a-f]{64}")
LINE = re.compile(r"([0-9a-f]{64}) [ *]\./(.*)")

SUM = """
if command -v openssl >/dev/null && echo | openssl dgst -sha256 -r >/dev/null 2>&1; then
  sum() { openssl dgst -sha256 -r; }
elif command -v sha256sum >/dev/null; then sum() { sha256sum; }
elif command -v shasum >/dev/null; then sum() { shasum -a 256; }
else sum() { :; }
fi
"""
"""Defines `sum`: the SHA-256 of stdin as the first word of a line, or nothing where there is no tool for it. For large
files: openssl takes a third of the time, as it uses the processor's own instructions."""

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

# The same for many plain names at once: lines of a hash and a name. 4 where sha256sum is missing.
BULK_HASHES = compact(
    f"""
echo gpuscale:begin
cd && cd "./$2" || exit 3
command -v sha256sum >/dev/null || exit 4
{READ_NAMES}
sha256sum "$@" 2>/dev/null
exit 0
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
    wanted = tuple(dict.fromkeys(paths))
    found = await _in_bulk(machine, remote_dir, [path for path in wanted if is_simple(path)])
    for batch in batches([path for path in wanted if path not in found], str):
        said = await _ask(machine, HASHES, remote_dir, batch)
        found |= {path: word for path, word in zip(batch, said, strict=False) if HASH.fullmatch(word)}
    return found


async def _in_bulk(machine: Machine, remote_dir: str, paths: Sequence[str]) -> dict[str, str]:
    """Hashes by one process for many files; what is not in the answer may be asked for one by one."""
    found: dict[str, str] = {}
    for batch in batches(paths, str):
        names = set(batch)
        for line in await _ask(machine, BULK_HASHES, remote_dir, batch):
            match = LINE.fullmatch(line)
            if match is not None and match[2] in names:
                found[match[2]] = match[1]
    return found


async def _ask(machine: Machine, script: str, remote_dir: str, batch: Sequence[str]) -> list[str]:
    done = await machine.run_command(
        machine.command(script, remote_dir), stdin=lines(batch), timeout_sec=HASH_SEC, label="hashing files"
    )
    if done.exit_status == 3:
        raise TransferError(f"{machine.where}: there is no directory {remote_dir}")
    return done.stdout.decode("utf-8", "surrogateescape").split("\n")


async def tools(machine: Machine) -> frozenset[str]:
    """Those of TOOLS that the machine has. Raises Unreachable."""
    done = await machine.run(_TOOLS, timeout_sec=TOOLS_SEC, label="asking for its programs")
    return frozenset(done.stdout.decode("ascii", "replace").split()) & frozenset(TOOLS)
