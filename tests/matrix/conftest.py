"""The sandbox that the scenes of the matrix share, with an order on it that is none of ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.marketplace import Sandbox, running_sandbox
from tests.matrix.scene import Scene, new_scene, rent_as_somebody_else


@dataclass(frozen=True, slots=True)
class Shared:
    """A sandbox and the foreign order on it."""

    sandbox: Sandbox
    foreign: int


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    """One quick sandbox for the scenes of a file: machines that were taken away from us stay taken on it."""
    with running_sandbox("--boot-seconds", "0.05-0.1", "--listing-lag", "0.05", "--balance", "100000") as sandbox:
        yield Shared(sandbox, rent_as_somebody_else(sandbox))


@pytest.fixture
def scene(shared: Shared, tmp_path: Path) -> Iterator[Scene]:
    """A home of the test's own on the shared sandbox."""
    with new_scene(tmp_path, shared.sandbox, shared.foreign) as made:
        yield made
