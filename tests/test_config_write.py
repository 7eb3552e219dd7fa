"""Writing settings: whatever is set and taken back, the file can be loaded and says exactly that."""

from __future__ import annotations

import multiprocessing
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.config import ConfigError, load
from gpuscale_tui.config_keys import HOSTS
from gpuscale_tui.config_write import ABSENT, change, settings_path

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "scaler.max_workers": st.integers(0, 10_000),
    "scaler.max_hourly_budget": st.floats(0, 1_000_000),
    "scaler.restart_stalled": st.booleans(),
    "providers.clore.order_type": st.sampled_from(["on-demand", "spot", "auto"]),
    "providers.clore.exclude_countries": st.lists(st.sampled_from(["CN", "RU", "de"]), max_size=3),
    "budget.daily": st.floats(0, 1000),
    "budget.projects": st.dictionaries(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1),
                                       st.integers(0, 1000), min_size=1, max_size=3),
    "ui.banner": st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=30),
    HOSTS: st.just([{"name": "lab1", "host": "192.0.2.1", "port": 2222}]),
}  # fmt: skip
STEPS = st.lists(
    st.one_of([st.tuples(st.just(key), values | st.just(ABSENT)) for key, values in VALUES.items()]), max_size=12
)


def looked_up(found: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        found = getattr(found, name)
    return found


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else dict(value) if hasattr(value, "keys") else value


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_any_sequence_of_changes_leaves_exactly_these_values(steps: list[tuple[str, Any]]) -> None:
    """A model of the file in a dictionary says the same as the file; the user's own file stays as it was."""
    with tempfile.TemporaryDirectory() as name:
        config = Path(name, "config.toml")
        config.write_text("[scaler]\nmax_workers = 7 # mine\n")
        model: dict[str, Any] = {}
        for key, value in steps:
            written = change(config, {}, {key: value})
            assert written.undo == {key: model.get(key, ABSENT)}
            model.pop(key, None)
            if value is not ABSENT:
                model[key] = value
        loaded = load(config, {})
        for key in VALUES:
            source = settings_path(config, {}) if key in model else config if key == "scaler.max_workers" else "default"
            assert loaded.source(key) == str(source)
            if key in model and key != HOSTS:
                assert plain(looked_up(loaded.settings, key)) == model[key]
        assert config.read_text() == "[scaler]\nmax_workers = 7 # mine\n"
        assert {path.name for path in Path(name).iterdir()} <= {"config.toml", "settings.toml"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scaler.max_workers", -1), ("scaler.max_workers", 1.5), ("scaler.gpu_type", "x\n"), ("scaler.no_such", 1),
        ("scaler.min_workers", 6), (HOSTS, [{"name": "a"}]), ("ui", 3),
    ],
)  # fmt: skip
def test_a_wrong_value_never_reaches_the_file(tmp_path: Path, key: str, value: object) -> None:
    """Also one that is wrong only beside another one: min_workers above max_workers."""
    config = tmp_path / "config.toml"
    config.write_text("")
    change(config, {}, {"scaler.max_workers": 5, "ui.banner": "hello"})
    before = settings_path(config, {}).read_bytes()
    with pytest.raises(ConfigError):
        change(config, {}, {"ui.banner": "other", key: value})
    assert settings_path(config, {}).read_bytes() == before


def test_undo_brings_back_what_was(tmp_path: Path) -> None:
    """Several keys at once, one new, one changed."""
    config = tmp_path / "config.toml"
    config.write_text("")
    change(config, {}, {"ui.banner": "one"})
    before = load(config, {})
    written = change(config, {}, {"ui.banner": "two", "scaler.max_workers": 9})
    assert written.loaded.settings.ui.banner == "two"
    assert change(config, {}, written.undo).loaded == before


def test_rights_and_links_stay(tmp_path: Path) -> None:
    """New: its user's alone, whatever the umask. A link is followed. Rights of others go once a secret may be in it."""
    config = tmp_path / "there" / "config.toml"
    before = os.umask(0)
    try:
        config.parent.mkdir()
        config.write_text("")
        change(config, {}, {"ui.banner": "x"})
        path = settings_path(config, {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.rename(tmp_path / "elsewhere.toml")
        path.symlink_to(tmp_path / "elsewhere.toml")
        path.chmod(0o644)
        change(config, {}, {"ui.banner": "y"})
        assert path.is_symlink()
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        change(config, {}, {"notify.urls": ["slack://TokenA/TokenB/TokenC"]})
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_spoilt_file_is_not_written_over(tmp_path: Path) -> None:
    """What somebody wrote by hand may be mended; lost it may not be."""
    config = tmp_path / "config.toml"
    config.write_text("")
    settings_path(config, {}).write_text("[scaler\nmax_workers = 3")
    with pytest.raises(ConfigError, match="no valid TOML"):
        change(config, {}, {"ui.banner": "x"})
    assert settings_path(config, {}).read_text() == "[scaler\nmax_workers = 3"


def _write_many(config: Path, project: str) -> None:
    for number in range(10):
        change(config, {}, {f"budget.projects.{project}{number}": 1.0})


def test_two_writers_do_not_lose_each_others_keys(tmp_path: Path) -> None:
    """Processes of their own, at the same time."""
    config = tmp_path / "config.toml"
    config.write_text("")
    many = multiprocessing.get_context("spawn")
    writers = [many.Process(target=_write_many, args=(config, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    wanted = {f"{name}{number}" for name in "ab" for number in range(10)}
    assert load(config, {}).settings.budget.projects.keys() == wanted
