"""What a machine was sent before: contents by SHA-256, of which a job's tree is put together there.

In our directory on the machine, `cache/` holds:

    objects/PACK/HASH-MODE   contents with their permission bits; a pack is what one upload brought, moved in whole
    incoming/PACK            a pack on its way
    hard.X/ soft.X/          a tree being put together: hard links to objects, and its symbolic links

The tree that a job gets is a copy of `hard.X` (a reflink where the file system has them), never a hard link: what the
job writes reaches nobody else. Contents are compared with their hashes at each use where the machine has sha256sum,
else with their sizes. Forks cost time, so everything is done in bulk: one tar makes all links, one cp all copies.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import secrets
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import RemoteError, TransferError, Unreachable
from gpuscale_tui.remote.paths import check_directory, is_plain
from gpuscale_tui.remote.scripts import compact
from gpuscale_tui.remote.tree import DIRECTORY, FILE, LINK, TreeFile
from gpuscale_tui.remote.upload import put_tree
from gpuscale_tui.remote.workdir import link_stays_inside

KEPT_BYTES = 4 << 30
"""How much a machine keeps; what was not used for longest goes first."""
KEPT_PACKS = 100
ASKED_AT_ONCE = 4000
ANSWER_BYTES = 2 << 20
CHECK_SEC = 120
CHECK_BYTES_A_SEC = 20_000_000
ASSEMBLE_SEC = 600
SHA256 = re.compile(r"[0-9a-f]{64}")
HELD = re.compile(r"([0-9a-f]{64}) [ *]([0-9a-f]{32})/([0-9a-f]{64})-([0-7]{3})")
SIZED = re.compile(r" *([0-9]{1,19}) ([0-9a-f]{32})/([0-9a-f]{64})-([0-7]{3})")
USED = ".gpuscale-used"
"""The last file of the structure: the packs that it needs, one a line."""

# $2 the cache; stdin: names of objects, one a line. The first line says what the machine has for the work.
ASK = compact(
    """
echo gpuscale:begin
check=size pack=plain
if command -v sha256sum >/dev/null; then check=hash; fi
if command -v gzip >/dev/null; then pack=gzip; fi
echo "$check $pack"
cd && cd "./$2/objects" 2>/dev/null || exit 0
find_all() {
  while read -r name; do
    for place in */"$name"; do
      if [ -f "$place" ]; then echo "$place"; fi
    done
  done
}
if [ "$check" = hash ]; then find_all | xargs sha256sum; else find_all | xargs wc -c; fi
exit 0
"""
)

# $2 the cache, $3 the directory to make, $4 the X of hard.X, $5 the pack that has come or "-", $6 gzip or plain,
# $7 KiB that may be kept, $8 packs; stdin: a tar stream with hard.X and soft.X.
ASSEMBLE = compact(
    f"""
echo gpuscale:begin
umask 077
trap : PIPE
cd && home=$PWD && mkdir -p "./$2/objects" "./${{3%/*}}" && cd "./$2" || exit 1
find . ! -name . -prune -type d "(" -name "hard.*" -o -name "soft.*" ")" -mtime +0 -exec rm -rf "{{}}" + 2>/dev/null
hard=hard.$4 soft=soft.$4 part=$home/$3.part.$$ to=$home/$3
leave() {{ rm -rf "./$hard" "./$soft" "$part"; exit "$1"; }}
if [ "$5" != - ]; then
  if [ -d "incoming/$5" ]; then rm -rf "objects/$5"; mv -f "incoming/$5" "objects/$5" 2>/dev/null; fi
  [ -d "objects/$5" ] || exit 1
fi
unpack() {{ if [ "$1" = gzip ]; then gzip -dc; else cat; fi; }}
unpack "$6" | tar -xpof - || leave 1
[ -e "$hard/{USED}" ] || leave 1
used=" "
while read -r pack; do touch "objects/$pack"; used="$used$pack "; done < "$hard/{USED}"
rm -f "$hard/{USED}"
if cp -pRL --reflink=auto "$hard" "$part" 2>/dev/null; then :; else
  rm -rf "$part"
  cp -pRL "$hard" "$part" || leave 1
fi
if [ -d "$soft" ]; then cp -PR "$soft/." "$part/" || leave 1; fi
chmod 700 "$part" && rm -rf "$to" && mv -f "$part" "$to" && rm -rf "$to/${{part##*/}}" || leave 1
if [ "$5" != - ]; then
  find incoming ! -name incoming -prune -mtime +0 -exec rm -rf "{{}}" + 2>/dev/null
  while :; do
    set -- "$1" "$2" "$3" "$4" "$5" "$6" "$7" "$8" objects/*
    size=$(du -sk objects)
    if [ "${{size%%[!0-9]*}}" -le "$7" ] && [ "$(($#-8))" -le "$8" ]; then break; fi
    for oldest in $(ls -tr objects); do break; done
    case $used in (*" $oldest "*) break;; esac
    mv -f "objects/$oldest" "hard.$$.$4" && rm -rf "hard.$$.$4" || break
  done
fi
leave 0
"""
)


@dataclass(frozen=True, slots=True)
class Sent:
    """What had to be sent of a tree: the machine had the rest. Equal contents count once."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Stock:
    """What a machine has of the contents asked for: the pack of each, by object name; and which programs it has."""

    packs: dict[str, str]
    zipped: bool


async def put_cached(
    machine: Machine,
    cache: str,
    directory: str,
    files: Sequence[TreeFile],
    *,
    keep_bytes: int = KEPT_BYTES,
    progress: Callable[[int], None] | None = None,
) -> Sent:
    """Make `directory` on the machine hold exactly `files`, sending only contents that `cache` there lacks.

    Every file needs its `sha256`. Both paths are relative to the remote home. The tree is moved into its place when it
    is whole; after a failure repeat the call. A machine that cannot link or copy so is sent everything. `progress` is
    told the bytes sent so far. Raises TransferError (a file has changed since it was hashed), Unreachable.
    """
    check_directory(cache)
    check_directory(directory)
    _check(files)
    wanted = {_name(file): file for file in files if file.kind == FILE}
    stock = await _ask(machine, cache, wanted)
    lacking = [replace(file, path=name) for name, file in sorted(wanted.items()) if name not in stock.packs]
    sent = Sent(len(lacking), sum(file.size for file in lacking))
    names = "\n".join((directory, *(file.path for file in lacking)))  # the same when repeated, never another job's
    pack = hashlib.sha256(names.encode("ascii")).hexdigest()[:32]
    if lacking:
        await put_tree(machine, f"{cache}/incoming/{pack}", lacking, progress=progress)
        stock.packs.update((file.path, pack) for file in lacking)
    try:
        words = (cache, directory, pack if lacking else "-", str(keep_bytes >> 10), str(KEPT_PACKS))
        await _assemble(machine, words, files, stock)
    except Unreachable:
        raise
    except RemoteError:  # no hard links, no room for both, or somebody has tidied the cache away meanwhile
        await put_tree(machine, directory, files, progress=progress)
        return Sent(len(wanted), sum(file.size for file in wanted.values()))
    return sent


def _check(files: Iterable[TreeFile]) -> None:
    for file in files:
        if not is_plain(file.path) or file.path.split("/", 1)[0] == USED:
            raise TransferError(f"{file.path!r} is not a path inside the directory to send")
        if file.kind == FILE and (file.source is None or not SHA256.fullmatch(file.sha256)):
            raise ValueError(f"{file.path!r} comes without its content or hash")
        if file.kind == LINK and not link_stays_inside(file.path, file.target):
            raise TransferError(f"{file.path} links to {file.target}, out of the directory to send; leave it out")
        if file.kind not in {FILE, LINK, DIRECTORY}:
            raise TransferError(f"{file.path} is not a regular file; leave it out")


def _name(file: TreeFile) -> str:
    """What an object is called: equal contents with other permission bits are another."""
    return f"{file.sha256}-{file.mode & 0o777:03o}"


async def _ask(machine: Machine, cache: str, wanted: dict[str, TreeFile]) -> _Stock:
    stock = _Stock({}, zipped=False)
    names = sorted(wanted)
    for start in range(0, len(names), ASKED_AT_ONCE):
        batch = names[start : start + ASKED_AT_ONCE]
        size = sum(wanted[name].size for name in batch)
        done = await machine.run_command(
            machine.command(ASK, cache), stdin="".join(f"{name}\n" for name in batch).encode("ascii"),
            timeout_sec=CHECK_SEC + size / CHECK_BYTES_A_SEC, label="looking for what it was sent before",
            max_output=ANSWER_BYTES,
        )  # fmt: skip
        first, *lines = done.stdout.decode("ascii", "replace").split("\n")
        check, _, zipped = first.partition(" ")
        stock = replace(stock, zipped=zipped == "gzip")
        stock.packs.update(_held(lines, wanted, hashed=check == "hash"))
    return stock


def _held(lines: Iterable[str], wanted: dict[str, TreeFile], *, hashed: bool) -> Iterator[tuple[str, str]]:
    """Name and pack of each object that is there and is what its name says."""
    for line in lines:
        match = (HELD if hashed else SIZED).fullmatch(line)
        if match is None:
            continue
        found, pack, sha256, mode = match.groups()
        name = f"{sha256}-{mode}"
        file = wanted.get(name)
        if file is not None and (found == sha256 if hashed else int(found) == file.size):
            yield name, pack


async def _assemble(machine: Machine, words: Sequence[str], files: Sequence[TreeFile], stock: _Stock) -> None:
    """`words` are $2, $3 and from $5 on those that follow the kind of packing, which is ours to say."""
    mark = secrets.token_hex(8)
    cache, directory, pack, *limits = words
    stream, packing = _structure(files, stock.packs, mark), "plain"
    if stock.zipped:
        stream, packing = gzip.compress(stream, 1), "gzip"
    done = await machine.run_command(
        machine.command(ASSEMBLE, cache, directory, mark, pack, packing, *limits), stdin=stream,
        timeout_sec=ASSEMBLE_SEC, label="putting the directory together",
    )  # fmt: skip
    if done.exit_status != 0:
        said = done.stderr[:200].decode("utf-8", "replace").strip()
        raise TransferError(f"{machine.where}: the directory could not be put together ({said}); is its disk full?")


def _structure(files: Sequence[TreeFile], packs: dict[str, str], mark: str) -> bytes:
    """A tar stream: files as hard links to objects below hard.X, symbolic links below soft.X, directories where they
    are needed."""
    made: set[str] = set()
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for top in (f"hard.{mark}", *([f"soft.{mark}"] if any(file.kind == LINK for file in files) else [])):
            _directory(archive, top, 0o700, made)
        modes = {file.path: file.mode for file in files if file.kind == DIRECTORY}
        for file in files:
            top = f"{'soft' if file.kind == LINK else 'hard'}.{mark}"
            for path in _parents(file):
                _directory(archive, f"{top}/{path}", modes.get(path, 0o700), made)
            if file.kind != DIRECTORY:
                archive.addfile(_entry(file, top, packs))
        used = "".join(f"{pack}\n" for pack in sorted({packs[_name(file)] for file in files if file.kind == FILE}))
        entry = tarfile.TarInfo(f"hard.{mark}/{USED}")
        entry.mode, entry.size = 0o600, len(used)
        archive.addfile(entry, io.BytesIO(used.encode("ascii")))
    return buffer.getvalue()


def _parents(file: TreeFile) -> Iterator[str]:
    """The directories that an entry needs, from the top; a directory itself included."""
    parts = file.path.split("/")
    for depth in range(1, len(parts) + (file.kind == DIRECTORY)):
        yield "/".join(parts[:depth])


def _directory(archive: tarfile.TarFile, path: str, mode: int, made: set[str]) -> None:
    if path in made:
        return
    made.add(path)
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode = tarfile.DIRTYPE, mode & 0o777 | 0o700
    archive.addfile(entry)


def _entry(file: TreeFile, top: str, packs: dict[str, str]) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(f"{top}/{file.path}")
    if file.kind == LINK:
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, file.target, 0o777
    else:
        name = _name(file)
        entry.type, entry.linkname, entry.mode = tarfile.LNKTYPE, f"objects/{packs[name]}/{name}", file.mode & 0o777
    return entry
