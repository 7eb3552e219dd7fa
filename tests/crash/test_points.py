"""The engine dies at its calls, and the next one makes everything right; `make crash-points` has them all."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from gpuscale_tui.engine import commands, reconciler
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import queries
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from tests.crash.awaits import UNREACHED, all_awaits, unseen
from tests.crash.points import Call, Crash, all_calls, crash, plan_crashes

SHARE = 20
"""Of this many ways to die at a named point one is tried here."""
pytestmark = [pytest.mark.xdist_group("crash points"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def calls() -> Iterator[Mapping[str, Sequence[Call]]]:
    """Every call of every scenario that nothing interrupts."""
    logging.disable(logging.CRITICAL)  # scenarios in which our own code fails say so at length
    yield all_calls()
    logging.disable(logging.NOTSET)


@pytest.mark.slow
def test_the_scenarios_come_by_every_await_of_the_engine(calls: Mapping[str, Sequence[Call]]) -> None:
    """An await that no scenario comes by was never tried: add a scenario, or say in UNREACHED why there is none."""
    seen = {(call.point.module, call.point.line) for each in calls.values() for call in each}
    assert [each.name for each in unseen(seen)] == []


def test_what_is_explained_exists() -> None:
    """An explanation for code that is gone, or that is reached by now, says nothing true."""
    known = {f"{each.module}.{each.function}" for each in all_awaits()}
    assert set(UNREACHED) - known == set()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_engine_dies_at_its_calls_and_nothing_is_lost(calls: Mapping[str, Sequence[Call]]) -> None:
    """A sample that is the same each time, over all modules, functions and moments."""
    everywhere = plan_crashes(1 << 40, calls)
    points = len({(each.point, each.moment) for each in everywhere})
    sample = everywhere[:points][::SHARE]
    assert [text for planned in sample for text in crash(planned)] == []


@pytest.mark.slow
def test_a_bug_that_only_a_crash_brings_out_is_found(
    calls: Mapping[str, Sequence[Call]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an engine that takes a call that nobody heard of for one without effect, an order is forgotten."""
    monkeypatch.setattr(reconciler, "CREATE_CALL_MS", -1_000_000_000)
    monkeypatch.setattr(reconciler, "LISTINGS_WITHOUT_ORDER", 1)
    creates = [call for call in calls["unseen"] if call.point.kind.endswith(" create") and call.heard]
    [first, *_] = creates
    [wrong] = crash(Crash("unseen", first.number, "after", first.point))
    assert "costs money and no live worker has it" in wrong


def test_a_submission_that_is_cut_off_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """The verb has no await; what it may leave behind is what the files hold before and after its commit."""
    home = Home(tmp_path / "home")
    home.ensure()
    specs = [JobSpec(image="img", command="x", secret_env={"TOKEN": "x"})] * 3
    with Database(home.database) as db:
        db.connection.execute("BEGIN IMMEDIATE")
        ids = commands.submit(db.connection, home, specs, now=1)
        shutil.copytree(home.path, tmp_path / "before", ignore=shutil.ignore_patterns("*-shm"))
        db.connection.execute("COMMIT")
        shutil.copytree(home.path, tmp_path / "after", ignore=shutil.ignore_patterns("*-shm"))
    assert (stored(tmp_path / "before"), stored(tmp_path / "after")) == ([], ids)


def stored(path: Path) -> list[int]:
    """The jobs that the next program finds in a home."""
    with Database(Home(path).database) as db:
        assert db.connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return db.read(queries.job_ids)
