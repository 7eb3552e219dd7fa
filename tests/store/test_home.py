"""Where the home is, and that it is private."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gpuscale_tui.store.home import Home


def test_the_option_wins_then_the_environment_then_the_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    environ = {"GPUSCALE_HOME": str(tmp_path / "env")}
    assert Home.locate(str(tmp_path / "opt"), environ).path == tmp_path / "opt"
    assert Home.locate(None, environ).path == tmp_path / "env"
    assert Home.locate(None, {}).path == tmp_path / "data" / "gpuscale"
    assert Home.locate("", {"GPUSCALE_HOME": ""}).path == tmp_path / "data" / "gpuscale"


def test_relative_and_tilde_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "ann"))
    assert Home.locate("here", {}).path == tmp_path / "here"
    assert Home.locate("~/there", {}).path == tmp_path / "ann" / "there"


def test_a_home_is_private_even_where_it_was_not(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.path.mkdir(mode=0o755)
    home.ensure()
    home.ensure()
    directories = [home.path, *(path for path in home.path.iterdir())]
    assert {path.name for path in directories} == {"home", "keys", "secrets", "providers", "checkpoints"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0o700}


def test_every_place_is_inside(tmp_path: Path) -> None:
    home = Home(tmp_path)
    places = [home.database, home.logs, home.checkpoints, home.client_key, home.secrets, home.providers, home.lock,
              home.doorbell, home.engine_log]  # fmt: skip
    assert len(set(places)) == len(places)
    assert all(place.is_relative_to(tmp_path) for place in places)
