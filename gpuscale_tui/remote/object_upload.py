"""A machine sends files to object storage by itself, and fetches them from there, through addresses signed for it.

Addresses are secrets: they reach the machine on stdin, never as an argument, and stand in no message and no log. What
the machine says of its work is a claim; whoever asked looks into the storage. `curl` does it (7.52 of 2016 or newer),
else `python3`; parts of large files go through `dd`, so that no copy is made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from gpuscale_tui.remote.connection import Completed, Machine
from gpuscale_tui.remote.errors import TransferError
from gpuscale_tui.remote.inspection import HASH, SUM
from gpuscale_tui.remote.names import READ_NAMES, batches, lines
from gpuscale_tui.remote.paths import check_directory, check_storable
from gpuscale_tui.remote.scripts import compact

Way = Literal["curl", "python3"]
T = TypeVar("T")
MIB = 1 << 20
BATCH = 100
"""Files that one program sends, one after the other over one connection."""
START_SEC, SLOWEST = 300, 200_000
"""A batch may take so long, and a second more for so many bytes."""
CONNECT_SEC, STALL_SEC = 20, 60
SUMS_SEC = 3600
URL = re.compile(r"https?://[A-Za-z0-9._~:/?\[\]@!$&()*+,;=%-]+")
HEADER = re.compile(r"[A-Za-z0-9-]+: [A-Za-z0-9+/=._-]*")
ANSWER = re.compile(r"gs ([0-9]{1,6}) ([0-9]{3})")

# $2 the directory; stdin: a configuration of curl. The first option keeps the user's own .curlrc out.
CURL = compact('echo gpuscale:begin\ncd && cd "./$2" || exit 3\nexec curl -q -K -')

# $2 the directory; stdin: blocks of 1 MiB to skip and to send, the header, the address, then the name.
CURL_PART = compact(
    f"""
echo gpuscale:begin
cd && cd "./$2" || exit 3
read -r skip count && IFS= read -r header && IFS= read -r url || exit 1
{READ_NAMES}
dd if="$1" bs={MIB} skip="$skip" count="$count" 2>/dev/null | curl -q -K /dev/fd/3 --data-binary @- 3<<END
url = "$url"
request = PUT
header = "$header"
header = "Content-Type:"
header = "Expect:"
output = /dev/null
silent
globoff
connect-timeout = {CONNECT_SEC}
speed-limit = 1
speed-time = {STALL_SEC}
write-out = "gs 0 %{{http_code}}"
END
"""
)

# $2 the directory, $3 the program; stdin: a line of JSON for each file. Isolated: the job's own modules are not read.
PYTHON = compact('echo gpuscale:begin\ncd && cd "./$2" || exit 3\nexec python3 -I -c "$3"')

# Neither quotes that a shell reads nor backslashes stand in it.
PYTHON_WORK = f"""
import http.client, json, sys
from urllib.parse import urlsplit

def work(one):
    split = urlsplit(one["url"])
    kind = http.client.HTTPSConnection if split.scheme == "https" else http.client.HTTPConnection
    line = kind(split.hostname, split.port, timeout={STALL_SEC})
    target = (split.path or "/") + "?" + split.query
    name = b"./" + one["path"].encode("utf-8", "surrogateescape")
    headers = dict(one["headers"])
    if one["put"]:
        with open(name, "rb") as file:
            file.seek(one["offset"])
            left = one["size"]
            headers["Content-Length"] = str(left)
            line.putrequest("PUT", target, skip_accept_encoding=True)
            for pair in headers.items():
                line.putheader(*pair)
            line.endheaders()
            while left:
                data = file.read(min(left, {MIB}))
                if not data:
                    return 0
                line.send(data)
                left -= len(data)
            answer = line.getresponse()
            answer.read()
            return answer.status
    if one["offset"]:
        headers["Range"] = "bytes=%d-" % one["offset"]
    line.request("GET", target, headers=headers)
    answer = line.getresponse()
    if answer.status not in (200, 206):
        return answer.status
    with open(name, "r+b") as file:
        file.seek(one["offset"] if answer.status == 206 else 0)
        file.truncate()
        while True:
            data = answer.read({MIB})
            if not data:
                return answer.status
            file.write(data)

for number, text in enumerate(sys.stdin.buffer):
    one = json.loads(text.decode("ascii"))
    try:
        status = work(one)
    except (OSError, http.client.HTTPException, ValueError):
        status = 0
    print("gs %d %03d" % (number, status), flush=True)
    if not status:
        break
"""

# $2 the directory; stdin: how many parts of how many blocks of 1 MiB, then the name. One line a part.
PART_SUMS = compact(
    f"""
echo gpuscale:begin
cd && cd "./$2" || exit 3
read -r parts blocks || exit 1
{SUM}
{READ_NAMES}
part=0
while [ "$part" -lt "$parts" ]; do
  hash=$(dd if="$1" bs={MIB} skip="$((part*blocks))" count="$blocks" 2>/dev/null | sum)
  echo "${{hash%% *}}"
  part=$((part+1))
done
"""
)


# stdin: addresses, one a line. One line each: the hash of what is there, or nothing.
READ_BACK = compact(
    f"""
echo gpuscale:begin
{SUM}
while IFS= read -r url; do
hash=$(curl -q -K - <<END | sum
url = "$url"
fail
silent
globoff
connect-timeout = {CONNECT_SEC}
speed-limit = 1
speed-time = {STALL_SEC}
END
)
echo "${{hash%% *}}"
done
"""
)

# $2 the directory; stdin: the permission bits, then names
MODES = compact(
    f"""
echo gpuscale:begin
cd && cd "./$2" || exit 3
read -r mode || exit 1
{READ_NAMES}
exec chmod "$mode" "$@"
"""
)


@dataclass(frozen=True, slots=True)
class Sending:
    """`size` bytes of a file from `offset` (both in whole MiB unless it is all of the file), and where they go.

    `whole`: they are all of it.
    """

    path: str
    size: int
    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = ()
    offset: int = 0
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Fetching:
    """A file that is there, empty or cut off, and where its bytes from `offset` on are."""

    path: str
    size: int
    url: str = field(repr=False)
    offset: int = 0


async def send(machine: Machine, remote_dir: str, way: Way, files: Sequence[Sending]) -> tuple[int, ...]:
    """Let the machine send; the HTTP status of each, 0 for what was not sent or not answered.

    Raises TransferError (no such directory), Unreachable.
    """
    _check(remote_dir, [file.path for file in files], [file.url for file in files])
    statuses: list[int] = []
    for batch in _batches(files):
        if way == "curl" and not batch[0].whole:
            statuses.append(await _send_part(machine, remote_dir, batch[0]))
        else:
            statuses += await _work(machine, remote_dir, way, batch)
    return tuple(statuses)


async def fetch(machine: Machine, remote_dir: str, way: Way, files: Sequence[Fetching]) -> tuple[int, ...]:
    """Let the machine fetch into files that are there; the HTTP status of each, 0 for what was not answered."""
    _check(remote_dir, [file.path for file in files], [file.url for file in files])
    statuses: list[int] = []
    for start in range(0, len(files), BATCH):
        statuses += await _work(machine, remote_dir, way, files[start : start + BATCH])
    return tuple(statuses)


async def part_sums(machine: Machine, remote_dir: str, path: str, size: int, part_bytes: int) -> tuple[str, ...]:
    """SHA-256 of each part of a file, by the machine; empty where it cannot tell them. `part_bytes` in whole MiB."""
    _check(remote_dir, [path], [])
    count = -(-size // part_bytes)
    done = await machine.run_command(
        machine.command(PART_SUMS, remote_dir), stdin=b"%d %d\n" % (count, part_bytes // MIB) + lines([path]),
        timeout_sec=SUMS_SEC, label="hashing the parts of a file",
    )  # fmt: skip
    _check_status(machine, remote_dir, done)
    found = tuple(word for word in done.stdout.decode("ascii", "replace").split("\n") if HASH.fullmatch(word))
    return found if len(found) == count else ()


async def read_back(machine: Machine, urls: Sequence[str], size: int) -> tuple[str, ...]:
    """SHA-256 of what lies at addresses, `size` bytes in all, read by the machine with curl; empty where it cannot."""
    done = await machine.run_command(
        machine.command(READ_BACK), stdin="".join(f"{url}\n" for url in urls).encode("ascii"),
        timeout_sec=START_SEC + size / SLOWEST, label="reading back from the object storage",
    )  # fmt: skip
    words = done.stdout.decode("ascii", "replace").split("\n")
    return tuple(word if HASH.fullmatch(word) else "" for word in (*words, *[""] * len(urls))[: len(urls)])


async def set_modes(machine: Machine, remote_dir: str, modes: Mapping[str, int]) -> None:
    """Give files their permission bits. Raises TransferError, Unreachable."""
    check_directory(remote_dir)
    for mode in sorted(set(modes.values())):
        for batch in batches([path for path, one in modes.items() if one == mode], str):
            done = await machine.run_command(
                machine.command(MODES, remote_dir), stdin=b"%o\n" % (mode & 0o777) + lines(batch),
                timeout_sec=STALL_SEC, label="setting permissions",
            )  # fmt: skip
            if done.exit_status != 0:
                raise TransferError(f"{machine.where}: permissions in {remote_dir} could not be set")


async def _send_part(machine: Machine, remote_dir: str, part: Sending) -> int:
    ((name, value),) = part.headers
    words = f"{part.offset // MIB} {-(-part.size // MIB)}\n{name}: {value}\n{part.url}\n"
    done = await machine.run_command(
        machine.command(CURL_PART, remote_dir), stdin=words.encode("ascii") + lines([part.path]),
        timeout_sec=START_SEC + part.size / SLOWEST, label="sending a part of a file to the object storage",
    )  # fmt: skip
    return _answers(machine, remote_dir, done, 1)[0]


async def _work(machine: Machine, remote_dir: str, way: Way, files: Sequence[Sending | Fetching]) -> list[int]:
    """One program for one batch."""
    if way == "python3":
        text, command = _python_input(files), machine.command(PYTHON, remote_dir, PYTHON_WORK)
    else:
        text, command = _curl_input(files), machine.command(CURL, remote_dir)
    limit = START_SEC + sum(file.size for file in files) / SLOWEST
    done = await machine.run_command(
        command, stdin=text, timeout_sec=limit, label="moving files to or from the object storage"
    )
    return _answers(machine, remote_dir, done, len(files))


def _answers(machine: Machine, remote_dir: str, done: Completed, count: int) -> list[int]:
    """The statuses that stand in the output; what else stands there may hold an address and is dropped."""
    _check_status(machine, remote_dir, done)
    statuses = [0] * count
    for number, status in ANSWER.findall(done.stdout.decode("ascii", "replace")):
        if int(number) < count:
            statuses[int(number)] = int(status)
    return statuses


def _check_status(machine: Machine, remote_dir: str, done: Completed) -> None:
    if done.exit_status == 3 and not done.stdout:
        raise TransferError(f"{machine.where}: there is no directory {remote_dir}")


def _check(remote_dir: str, paths: Sequence[str], urls: Sequence[str]) -> None:
    check_directory(remote_dir)
    for path in paths:
        check_storable(path)
    if not all(URL.fullmatch(url) for url in urls):
        raise ValueError("an address that could not be handed over exactly")


def _batches(files: Sequence[Sending]) -> Iterator[list[Sending]]:
    """Whole files many at a time, parts one by one."""
    batch: list[Sending] = []
    for file in files:
        if batch and (not file.whole or not batch[0].whole or len(batch) >= BATCH):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch


def _python_input(files: Sequence[Sending | Fetching]) -> bytes:
    """A line of JSON for each; names that are no text stand there as Python's surrogate escapes."""
    return b"".join(json.dumps(_told(file)).encode("ascii") + b"\n" for file in files)


def _told(file: Sending | Fetching) -> dict[str, object]:
    headers = dict(file.headers) if isinstance(file, Sending) else {}
    return {
        "put": isinstance(file, Sending), "path": file.path, "url": file.url, "headers": headers, "size": file.size,
        "offset": file.offset,
    }  # fmt: skip


def _curl_input(files: Sequence[Sending | Fetching]) -> bytes:
    """A configuration of curl that moves the files one after the other and stops where nobody answers."""
    return b"next\n".join(_curl_one(number, file) for number, file in enumerate(files))


def _curl_one(number: int, file: Sending | Fetching) -> bytes:
    name = b'"./' + _quoted(file.path.encode("utf-8", "surrogateescape")) + b'"\n'
    texts = [f'url = "{file.url}"', "silent", "globoff", f"connect-timeout = {CONNECT_SEC}", "speed-limit = 1",
             f"speed-time = {STALL_SEC}", f'write-out = "gs {number} %{{http_code}}\\n"']  # fmt: skip
    if number == 0:
        texts.append("fail-early")
    if isinstance(file, Sending):
        told = [f"{name}: {value}" for name, value in file.headers]
        if not all(HEADER.fullmatch(header) for header in told):
            raise ValueError("a header that could not be handed over exactly")
        texts += [f'header = "{header}"' for header in (*told, "Expect:")]
        texts.append('output = "/dev/null"')
        return b"upload-file = " + name + "\n".join(texts).encode("ascii") + b"\n"
    texts += ["fail", *([f"continue-at = {file.offset}"] if file.offset else [])]
    return b"output = " + name + "\n".join(texts).encode("ascii") + b"\n"


_ESCAPES = {b"\\": b"\\\\", b'"': b'\\"', b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t", b"\v": b"\\v"}


def _quoted(name: bytes) -> bytes:
    """As curl reads a text between quotes (its manual, -K)."""
    return re.sub(rb'[\\"\n\r\t\v]', lambda found: _ESCAPES[found[0]], name)
