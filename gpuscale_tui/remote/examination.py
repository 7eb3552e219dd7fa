"""A look at a machine before it is given work: its GPUs, driver, disk, clock, and the speed of our way to it.

Whatever it says is hostile: what does not read as expected counts as not said, names are cut short and cleaned.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from gpuscale_tui.model.cuda import Cuda, parse_cuda
from gpuscale_tui.model.hosts import Card, Examination
from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.scripts import compact

LOOK_TIMEOUT_SEC = 90
CLOCK_TIMEOUT_SEC = 20
SPEED_SEC = 4.0
"""Longest time that one direction is measured for."""
BLOCK_BYTES = 64 * 1024
DOWN_BLOCKS, UP_BLOCKS = 32, 16
OUTPUT_BYTES = 64 * 1024
MOST_CARDS = 64
NAME_CHARACTERS = 64
LARGEST_MEMORY_MB = 64 * 1024 * 1024
LONGEST_SKEW_SEC = 100 * 365 * 86_400

LOOK = compact(
    """
    umask 077
    read -r base || base=
    PATH="$PATH:/usr/local/nvidia/bin:/usr/local/cuda/bin:/usr/local/bin:/usr/bin:/bin"
    # a broken driver lets nvidia-smi hang for ever
    limit=
    command -v timeout >/dev/null 2>&1 && limit="timeout 20"
    if command -v nvidia-smi >/dev/null 2>&1; then
      echo "=cards"
      $limit nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader,nounits 2>/dev/null \
</dev/null | head -n 64
      echo "=banner"
      $limit nvidia-smi 2>/dev/null </dev/null | head -n 12
    fi
    echo "=disk"
    mkdir -p "./$base" 2>/dev/null
    df -Pk "./$base" 2>/dev/null | tail -n 1
    echo "=end"
    """
)
"""stdin: BASE, our directory there. stdout: sections that begin with `=NAME`; without nvidia-smi there are no cards."""

_CUDA = re.compile(r"CUDA[A-Za-z ]{0,16}Version\s*:\s*([0-9]{1,2}\.[0-9]{1,2})", re.ASCII)
_DRIVER = re.compile(r"[0-9]{2,4}(\.[0-9]{1,4}){1,3}", re.ASCII)


async def examine(machine: Machine, base: str, now: Callable[[], int]) -> Examination:
    """Look at a machine whose directory of ours is `base`; `now` gives UTC ms. Raises Unreachable or RemoteError."""
    done = await machine.run(
        LOOK, stdin=f"{base}\n".encode(), timeout_sec=LOOK_TIMEOUT_SEC, label="examination", max_output=OUTPUT_BYTES
    )
    skew = await _clock_skew(machine, now)
    down, up = await _download_mbps(machine), await _upload_mbps(machine)
    return parse(done.stdout.decode("utf-8", "replace"), down_mbps=down, up_mbps=up, skew_ms=skew)


def parse(
    text: str, *, down_mbps: float | None = None, up_mbps: float | None = None, skew_ms: int | None = None
) -> Examination:
    """What the look's output says. Never raises: what makes no sense is left out."""
    sections = _sections(text)
    listed = sections.get("cards")
    rows = [row for line in listed or () if (row := _card(line)) is not None][:MOST_CARDS]
    return Examination(
        cards=None if listed is None else tuple(card for card, _ in rows),
        driver=next((driver for _, driver in rows if driver), None),
        cuda=_cuda(sections.get("banner", ())),
        free_disk_gb=_free_gb(sections.get("disk", ())),
        down_mbps=down_mbps,
        up_mbps=up_mbps,
        skew_ms=skew_ms,
    )


def _sections(text: str) -> dict[str, list[str]]:
    """The lines of each section; of two with the same name the first counts."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.split("\n"):
        if line.startswith("="):
            lines = sections.setdefault(line[1:].strip(), [])
        else:
            lines.append(line.strip())
    return sections


def _card(line: str) -> tuple[Card, str | None] | None:
    """`NVIDIA GeForce RTX 4090, 24564, 550.54.14`. None for a line that is no such thing."""
    parts = [part.strip() for part in line.rsplit(",", 2)]
    if len(parts) != 3:
        return None
    name = "".join(character for character in parts[0] if character.isascii() and character.isprintable())
    if not name or len(name) > NAME_CHARACTERS:
        return None
    return Card(name, _memory(parts[1])), parts[2] if _DRIVER.fullmatch(parts[2]) else None


def _memory(text: str) -> int | None:
    """MiB, as `24564`; `[N/A]` and the like is None."""
    digits = text.removesuffix("MiB").strip()
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 9):
        return None
    return int(digits) if 0 < int(digits) <= LARGEST_MEMORY_MB else None


def _cuda(banner: list[str] | tuple[str, ...]) -> Cuda | None:
    for line in banner:
        match = _CUDA.search(line[:512])
        if match is not None:
            return parse_cuda(match[1])
    return None


def _free_gb(lines: list[str] | tuple[str, ...]) -> float | None:
    """The fourth word of df's line: KiB that are free."""
    for line in lines:
        words = line.split()
        if len(words) >= 4 and words[3].isascii() and words[3].isdecimal() and len(words[3]) <= 15:
            return int(words[3]) / 1024 / 1024
    return None


async def _clock_skew(machine: Machine, now: Callable[[], int]) -> int | None:
    """The machine's clock minus ours in ms, good to a second and half the round trip; None when it says no time."""
    asked = now()
    done = await machine.run("date +%s", timeout_sec=CLOCK_TIMEOUT_SEC, label="asking for the time", max_output=1024)
    answered = now()
    text = done.stdout.decode("ascii", "replace").strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 12) or int(text) > LONGEST_SKEW_SEC:
        return None
    theirs = int(text) * 1000
    # Its second began up to a second ago: only what lies outside of the time that we waited is a difference.
    if theirs + 1000 < asked:
        return theirs + 1000 - asked
    return max(0, theirs - answered)


async def _download_mbps(machine: Machine) -> float | None:
    """Mbit/s from the machine to here, over a few megabytes or seconds. None when it sends nothing at all."""
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    script = f"echo gpuscale:begin\nexec dd if=/dev/zero bs={BLOCK_BYTES} count={DOWN_BLOCKS} 2>/dev/null"
    size = 0
    async with machine.channel(machine.command(script), changed) as channel:
        began = loop.time()
        try:
            async with asyncio.timeout(SPEED_SEC):
                while size < BLOCK_BYTES * DOWN_BLOCKS and not channel.drained:
                    changed.clear()
                    size += len(channel.take())
                    if size < BLOCK_BYTES * DOWN_BLOCKS and not channel.drained:
                        await changed.wait()
        except TimeoutError:
            pass  # slow: what came until now tells how slow
        return _mbps(size, loop.time() - began)


async def _upload_mbps(machine: Machine) -> float | None:
    """Mbit/s from here to the machine; when time runs out, the most that it can have been."""
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    block = bytes(BLOCK_BYTES)
    async with machine.channel(machine.command("echo gpuscale:begin\nexec cat >/dev/null"), changed) as channel:
        began = loop.time()
        try:
            async with asyncio.timeout(SPEED_SEC):
                for _ in range(UP_BLOCKS):
                    await channel.feed(block)
                channel.write_eof()
                while not channel.drained:
                    changed.clear()
                    channel.take()
                    if not channel.drained:
                        await changed.wait()
        except TimeoutError:
            pass
        return _mbps(BLOCK_BYTES * UP_BLOCKS, loop.time() - began)


def _mbps(size: int, seconds: float) -> float | None:
    return None if size == 0 else size * 8 / 1_000_000 / max(seconds, 0.001)
