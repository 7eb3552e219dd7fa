"""The look at a machine before it is given work: on real ones, and what hostile output makes of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.model.hosts import Card, Examination
from gpuscale_tui.remote.examination import LARGEST_MEMORY_MB, MOST_CARDS, NAME_CHARACTERS, examine, parse
from tests.remote.conftest import Site

BASE = ".gpuscale/test"
GOOD = """=cards
NVIDIA GeForce RTX 4090, 24564, 550.54.14
NVIDIA GeForce RTX 4090, [N/A], 550.54.14
=banner
Thu Nov 19 10:00:00 2026
| NVIDIA-SMI 550.54.14    Driver Version: 550.54.14    CUDA Version: 12.4 |
=disk
/dev/vda 263174212 25165824 83886080 25% /
=end
"""
SMI = """#!/bin/sh
case "$1" in
--query-gpu=*) echo "NVIDIA A100-SXM4-80GB, 81920, 580.65.06" ;;
*) echo "| NVIDIA-SMI 580.65.06   CUDA Version: 13.0 |" ;;
esac
"""


def now() -> int:
    return time.time_ns() // 1_000_000


async def test_a_real_machine(site: Site) -> None:
    """Whatever shell and userland: disk, clock and both speeds are found out; without nvidia-smi there are no cards."""
    found = await examine(await site.connect(), BASE, now)
    assert found.cards is None or found.cards, "no program, or one that lists what is there"
    free = os.statvfs(site.home)
    assert found.free_disk_gb == pytest.approx(free.f_bavail * free.f_frsize / 1024**3, rel=0.2, abs=2)
    assert found.down_mbps is not None
    assert found.down_mbps > 0
    assert found.up_mbps is not None
    assert found.up_mbps > 0
    assert found.skew_ms is not None
    assert abs(found.skew_ms) <= 60_000
    assert (site.home / BASE).is_dir()


async def test_a_clock_that_differs(dash_site: Site) -> None:
    """The difference is told to the second, either way."""
    machine = await dash_site.connect()
    for ahead in (-3_600_000, 86_400_000):
        found = await examine(machine, BASE, lambda shift=ahead: now() - shift)  # type: ignore[misc]
        assert found.skew_ms == pytest.approx(ahead, abs=60_000)


async def test_what_nvidia_smi_says(dash_site: Site, tmp_path: Path) -> None:
    """Model, memory, driver, CUDA; one that fails or prints an apology shows no cards."""
    program = tmp_path / "programs" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(SMI)
    program.chmod(0o755)
    assert dash_site.server is not None
    dash_site.server.path = f"{program.parent}:{os.environ['PATH']}"
    machine = await dash_site.connect()
    found = await examine(machine, BASE, now)
    assert found.cards == (Card("NVIDIA A100-SXM4-80GB", 81_920),)
    assert (found.driver, found.cuda) == ("580.65.06", (13, 0))
    program.write_text(
        "#!/bin/sh\necho NVIDIA-SMI has failed because it could not communicate with the driver\nexit 9\n"
    )
    assert (await examine(machine, BASE, now)).cards == ()


def test_reads_what_machines_say() -> None:
    found = parse(GOOD, down_mbps=5.0)
    assert found.cards == (Card("NVIDIA GeForce RTX 4090", 24_564), Card("NVIDIA GeForce RTX 4090", None))
    assert (found.driver, found.cuda, found.free_disk_gb, found.down_mbps) == ("550.54.14", (12, 4), 80.0, 5.0)


@pytest.mark.parametrize(
    ("text", "cards"),
    [
        ("", None), ("=disk\n", None), ("=cards\n=disk\n", ()), ("=cards\nNo devices were found\n", ()),
        ("=cards\nRTX\x1b]0;owned\x07 4090, 1, 550.1\n", (Card("RTX]0;owned 4090", 1),)),
        (f"=cards\n{'A' * 9999}, 1, 550.1\n", ()), ("=cards\n, 1, 550.1\n", ()),
        ("=cards\nX, 99999999999999999999, 550.1\n", (Card("X"),)), ("=cards\nX, -5, 1\n", (Card("X"),)),
        ("=cards\nX, ٣, 1\n", (Card("X"),)), ("=cards\na,b,c, 5, 1\n", (Card("a,b,c", 5),)),
        ("=cards\nX, 1, 5\n" * 9999, (Card("X", 1),) * MOST_CARDS),
        ("=cards\nX, 1, 5\n=cards\nY, 1, 5\n", (Card("X", 1), Card("Y", 1))),
    ],
)  # fmt: skip
def test_hostile_cards(text: str, cards: tuple[Card, ...] | None) -> None:
    found = parse(text).cards
    assert found == cards


@given(st.text(max_size=300), st.sampled_from(["", "=cards\n", "=banner\n", "=disk\n"]))
def test_nothing_that_is_said_breaks_the_reader(text: str, section: str) -> None:
    found = parse(section + text)
    assert isinstance(found, Examination)
    for card in found.cards or ():
        assert card.name.isprintable()
        assert card.name.isascii()
        assert 0 < len(card.name) <= NAME_CHARACTERS
        assert card.memory_mb is None or 0 < card.memory_mb <= LARGEST_MEMORY_MB
