"""The table of actions: one truth for keys, footer, help and README."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gpuscale_tui.tui import actions, screens
from gpuscale_tui.tui.actions import ACTIONS
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.keymap import KeymapError, checked_keymap, key_table
from gpuscale_tui.tui.screens.base import BaseScreen
from gpuscale_tui.tui.screens.fleet import FleetScreen
from gpuscale_tui.tui.screens.form import FormScreen
from gpuscale_tui.tui.screens.job import JobScreen
from gpuscale_tui.tui.screens.offer import OfferScreen
from gpuscale_tui.tui.screens.spending import SpendingScreen
from gpuscale_tui.tui.screens.worker import WorkerScreen

PAGES: list[type[BaseScreen]] = [JobScreen, WorkerScreen, OfferScreen, FleetScreen, FormScreen, SpendingScreen]  # type: ignore[type-arg]


def screen_types() -> dict[str, type[BaseScreen]]:  # type: ignore[type-arg]
    """Every screen and page by name."""
    found = {name: type(screens.make(name)) for name in actions.SCREENS}
    return {**found, **{page.NAME: page for page in PAGES}}  # type: ignore[dict-item]


def test_ids_are_unique_and_no_key_means_two_things() -> None:
    """The table itself passes the check that a user's keymap must pass."""
    assert len({action.id for action in ACTIONS}) == len(ACTIONS)
    assert checked_keymap({}) == {}


def test_every_action_is_carried_out_by_a_method_of_each_screen_it_is_on() -> None:
    """No key leads nowhere."""
    types = screen_types()
    for action in ACTIONS:
        for name in action.where:
            owner = types[name]
            assert hasattr(owner, action.method) or hasattr(GpuscaleApp, action.method), (action.id, name)


def test_every_screen_binds_exactly_its_actions() -> None:
    """The bindings of a screen are those of the table."""
    for name, kind in screen_types().items():
        bound = {binding.id for binding in kind.BINDINGS if not isinstance(binding, tuple)} - {None}
        assert bound == {action.id for action in actions.on_screen(name)}, name


def test_every_action_says_what_it_does() -> None:
    """A short label and a sentence."""
    for action in ACTIONS:
        assert action.label
        assert action.help.endswith("."), action.id


def test_keys_can_be_changed_and_exchanged() -> None:
    """Signs are understood as well as names."""
    assert checked_keymap({"job.cancel": "r", "job.retry": "x"}) == {"job.cancel": "r", "job.retry": "x"}
    assert checked_keymap({"list.filter": "&"}) == {"list.filter": "ampersand"}
    assert checked_keymap({"help": "f9, ctrl+y"}) == {"help": "f9,ctrl+y"}


@pytest.mark.parametrize(
    ("keymap", "words"),
    [
        ({"job.cancl": "d"}, ["'job.cancl'", "did you mean 'job.cancel'"]),
        ({"job.cancel": "w"}, ["'w'", "job.cancel", "job.why", "'queue'"]),
        ({"job.cancel": "d", "job.retry": "d"}, ["'d'", "job.cancel and job.retry"]),
        ({"job.cancel": "hyper+x"}, ["'hyper+x'", "allowed"]),
        ({"job.cancel": ""}, ["''", "allowed"]),
        ({"help": "1"}, ["'1'", "screen.queue"]),
    ],
)
def test_a_wrong_keymap_is_refused_clearly(keymap: dict[str, str], words: list[str]) -> None:
    """With the action, the key, and what stands against it."""
    with pytest.raises(KeymapError) as refused:
        checked_keymap(keymap)
    for word in words:
        assert word in str(refused.value)


def test_the_readme_table_names_every_action() -> None:
    """One row an action."""
    table = key_table()
    assert table.count("\n") == len(ACTIONS) + 1
    assert all(f"`{action.id}`" in table for action in ACTIONS)


@pytest.mark.parametrize(
    ("state", "why", "refused"),
    [
        ("failed", "its command failed", ""),
        ("running", "its command runs on w1", "only a finished job"),
        ("pending", "2 machines on the way", "only a finished job"),
        ("pending", "held until 2026-01-01 00:00:00 UTC because its machine failed", ""),
        ("pending", "setting machines up has cost $1.00: raise max_setup_usd, or `gpuscale retry` one of them", ""),
    ],
)
def test_a_job_that_is_held_after_faults_may_be_retried(state: str, why: str, refused: str) -> None:
    """As the verb does: at once."""
    job = SimpleNamespace(id=1, state=state, why=why)
    said = actions.by_id()["job.retry"].when(actions.Subject(job=job))  # type: ignore[arg-type]
    assert (refused in said) if refused else said == ""
