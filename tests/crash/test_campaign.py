"""A short campaign of kills; `make crash N=200` is the long one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.campaign import Campaign
from tests.crash.world import new_world

MOMENTS = ("release", "submit", "saving", "run", "boot", "rent")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("crash")
def test_the_program_is_killed_in_six_phases_of_its_work(tmp_path: Path) -> None:
    """Every job once done, every log whole, every machine given back, the books equal to the bill."""
    with new_world(tmp_path, seed=7) as world:
        campaign = Campaign(world, random.Random(7), deck=list(MOMENTS))
        assert campaign.run(len(MOMENTS)) == []
