"""Fixtures that every test may use."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

TERMINAL_VARIABLES = ("NO_COLOR", "TEXTUAL_THEME", "TEXTUAL_DIM_FACTOR", "FORCE_COLOR")
PRODUCT_VARIABLES = ("GPUSCALE_HOME", "GPUSCALE_CONFIG", "GPUSCALE_CLORE_URL", "CLORE_API_KEY")

# The same examples in every run, so that a change is what makes a test fail. GPUSCALE_FUZZ=1 looks for new ones.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", deadline=None)
settings.load_profile("fuzz" if os.environ.get("GPUSCALE_FUZZ") else "steady")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, which the product runs on."""
    return "asyncio"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees the user's own settings, colours or keys, and none writes into the user's home."""
    for name in (*TERMINAL_VARIABLES, *PRODUCT_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path_factory.mktemp("user-home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))
