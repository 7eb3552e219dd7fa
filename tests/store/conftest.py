"""A database of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.support import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An empty database and a standing clock."""
    made = Bench(tmp_path / "home" / "gpuscale.db")
    yield made
    made.db.close()
