"""What a machine does now: on real ones, with GPUs that are pretended, and what hostile answers make of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.remote.usage import MOST_CARDS, MachineUsage, read, take
from tests.remote.conftest import Site

BASE = ".gpuscale/test"


async def test_a_real_machine(site: Site) -> None:
    """Whatever shell and userland: memory and disk as this computer has them, cores as they are busy."""
    machine = await site.connect()
    first, second = await take(machine, BASE), await take(machine, BASE)
    free = os.statvfs(site.home)
    assert first.disk_free_mb == pytest.approx(free.f_bavail * free.f_frsize / 1024**2, rel=0.2, abs=2048)
    if first.mem_total_mb is not None:
        assert first.mem_total_mb == pytest.approx(
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1024**2, rel=0.1
        )
        assert 0 <= (first.mem_mb or 0) <= first.mem_total_mb
    percent = second.cpu_percent_since(first)
    assert percent is None or 0 <= percent <= 100


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("printf '40, 1000, 24564, 61\\n60, 3000, 24564, 70\\n'", (50, 4000, 49128, 70)),
        ("printf '[N/A], [N/A], 24564, 61\\n'", (None, None, 24564, 61)),
        ("printf '900, -5, 24564, 4000\\n'", (None, None, 24564, None)),
        ("exit 9", (None, None, None, None)),
        ("printf 'No devices were found\\n'", (None, None, None, None)),
        ("head -c 200000 /dev/zero | tr '\\0' 7", (None, None, None, None)),
    ],
)
async def test_what_the_cards_say(dash_site: Site, tmp_path: Path, answer: str, wanted: tuple[int | None, ...]) -> None:
    """Mean use, memory together, the hottest; what is no number up to what is possible counts as not said."""
    tools = tmp_path / "gpu"
    tools.mkdir()
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\n{answer}\n")
    (tools / "nvidia-smi").chmod(0o755)
    assert dash_site.server is not None
    dash_site.server.path = f"{tools}:{dash_site.server.path}"
    found = await take(await dash_site.connect(), BASE)
    assert (found.gpu_percent, found.gpu_mem_mb, found.gpu_mem_total_mb, found.gpu_temp_c) == wanted


def test_cores_are_busy_between_two_answers() -> None:
    """Ticks that go back, after a restart, say nothing."""
    before, after = MachineUsage(cpu_ticks=1000, idle_ticks=900), MachineUsage(cpu_ticks=1200, idle_ticks=950)
    assert after.cpu_percent_since(before) == 75
    assert before.cpu_percent_since(after) is None
    assert after.cpu_percent_since(None) is None
    assert after.cpu_percent_since(MachineUsage()) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["gpu", "cpu", "memory", "disk", "x"]),
            st.lists(st.text(max_size=24) | st.integers(-(10**20), 10**20).map(str), max_size=6),
        ).map(lambda said: (said[0], *said[1])),
        max_size=MOST_CARDS * 2,
    )
)
def test_whatever_a_machine_says_is_a_number_in_range_or_nothing(controls: list[tuple[str, ...]]) -> None:
    """No answer breaks the reader or passes for what cannot be."""
    found = read(controls)
    assert found.gpu_percent is None or 0 <= found.gpu_percent <= 100
    assert found.gpu_temp_c is None or 0 <= found.gpu_temp_c <= 150
    for value in (found.gpu_mem_mb, found.gpu_mem_total_mb, found.mem_mb, found.mem_total_mb, found.disk_free_mb):
        assert value is None or 0 <= value < 1 << 63
