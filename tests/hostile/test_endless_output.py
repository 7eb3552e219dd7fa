"""A job that prints without end fills no disk: what is kept of it has a limit, and a mark where it was cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpuscale_tui.engine.attempt import CUT
from gpuscale_tui.model.settings import LogsConfig
from tests.engine.conftest import Rig, hosts_rig
from tests.sshd import sshd_missing

LIMIT = 100_000


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    reason = sshd_missing()
    if reason is not None:
        pytest.skip(reason)
    with hosts_rig(tmp_path, 1) as made:
        made.settings = replace(made.settings, logs=LogsConfig(max_mb=LIMIT / 1_000_000))
        yield made


def test_an_endless_log_is_cut_and_the_job_goes_on(rig: Rig) -> None:
    """Twenty times the limit, in lines and without any; one that just fits is whole."""
    lines, flood, fits = (
        *rig.submit("yes 0123456789 | head -c 2000000; exit 3"),
        *rig.submit("head -c 2000000 /dev/zero; echo end"),
        *rig.submit(f"head -c {LIMIT} /dev/zero"),
    )
    rig.drain()
    assert rig.job(lines).exit_code == 3
    assert rig.job(flood).exit_code == rig.job(fits).exit_code == 0
    assert rig.output(lines) == (b"0123456789\n" * LIMIT)[:LIMIT] + CUT
    assert rig.output(flood) == bytes(LIMIT) + CUT
    assert rig.output(fits) == bytes(LIMIT)
    said = [event.job_id for event in rig.events() if "logs.max_mb" in event.detail]
    assert sorted(said) == sorted([lines, flood])  # type: ignore[type-var]
