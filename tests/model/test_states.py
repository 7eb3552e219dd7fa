"""The transition tables: complete over their enums, and true to the design cell by cell."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest

from gpuscale_tui.model.states import (
    ATTEMPT_TRANSITIONS,
    FAILING_CAUSES,
    FINAL_JOB_STATES,
    JOB_TRANSITIONS,
    LIVE_WORKER_STATES,
    WORKER_TRANSITIONS,
    AttemptState,
    Cause,
    IllegalTransition,
    JobState,
    WorkerState,
    check_transition,
)

TABLES: list[tuple[Any, Mapping[Any, frozenset[Any]], str]] = [
    (
        JobState,
        JOB_TRANSITIONS,
        """pending>running running>done running>failed running>cancelled running>pending pending>cancelled
        failed>pending cancelled>pending done>pending""",
    ),
    (
        AttemptState,
        ATTEMPT_TRANSITIONS,
        "assigned>staging staging>running running>saving saving>ended assigned>ended staging>ended running>ended",
    ),
    (
        WorkerState,
        WORKER_TRANSITIONS,
        """ordering>booting booting>idle idle>busy busy>idle releasing>released
        ordering>releasing booting>releasing idle>releasing busy>releasing
        booting>lost idle>lost busy>lost ordering>released""",
    ),
]
CELLS = [(table, old, new, text) for states, table, text in TABLES for old, new in product(states, states)]


@pytest.mark.parametrize(("states", "table", "text"), TABLES)
def test_every_state_has_a_row_and_rows_hold_only_states(states: Any, table: Any, text: str) -> None:
    assert set(table) == set(states)
    assert all(set(row) <= set(states) for row in table.values())


@pytest.mark.parametrize(("table", "old", "new", "text"), CELLS, ids=lambda value: str(value)[:20])
def test_each_cell_is_as_the_design_draws_it(table: Any, old: Any, new: Any, text: str) -> None:
    if f"{old}>{new}" in text.split():
        check_transition(table, old, new)
    else:
        with pytest.raises(IllegalTransition, match=f"{old} may not become {new}"):
            check_transition(table, old, new)


def test_states_with_no_way_out_are_the_final_ones_of_machines_and_attempts() -> None:
    assert {state for state, row in WORKER_TRANSITIONS.items() if not row} == {WorkerState.RELEASED, WorkerState.LOST}
    assert {state for state, row in ATTEMPT_TRANSITIONS.items() if not row} == {AttemptState.ENDED}
    assert not [state for state, row in JOB_TRANSITIONS.items() if not row], "a user may retry any finished job"


def test_a_machine_costs_until_it_is_confirmed_gone() -> None:
    assert {WorkerState.ORDERING, WorkerState.RELEASING} <= LIVE_WORKER_STATES
    assert LIVE_WORKER_STATES.isdisjoint({WorkerState.RELEASED, WorkerState.LOST})


def test_only_the_command_itself_fails_a_job() -> None:
    assert frozenset({Cause.USER_ERROR, Cause.TIMEOUT}) == FAILING_CAUSES
    assert set(JobState) - {JobState.PENDING, JobState.RUNNING} == FINAL_JOB_STATES
