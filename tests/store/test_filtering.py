"""Filters in SQL: the same rows as in memory, whatever is typed and whatever the rows say; nothing typed is SQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.model.query import AGE, MONEY, NUMBER, TEXT, QueryError, label, parse_query, words
from gpuscale_tui.store.event_list import condition as event_condition
from gpuscale_tui.store.filtering import SqlField, where
from gpuscale_tui.store.job_list import JOB_FIELDS, condition

NOW = 10_000_000
STATE = words("pending", "running", "host_fault", bare=True)
FIELDS = {
    "status": STATE, "state": STATE.named("status"), "name": TEXT, "cost": MONEY, "id": label("j"), "age": AGE,
    "gpus": NUMBER,
}  # fmt: skip
SQL = {
    "status": SqlField("state"), "name": SqlField("name"), "cost": SqlField("cost"), "id": SqlField("id"),
    "age": SqlField("{now} - at"), "gpus": SqlField("gpus"),
}  # fmt: skip
SEARCHED = ("'j' || id", "name")

letters = st.text(st.sampled_from("abAB%_\\'\";ÜüßéΣ-\u202e\x1b 1,"), max_size=6)
rows = st.lists(
    st.tuples(
        st.sampled_from(["pending", "running", "host_fault"]),
        st.none() | letters,
        st.none() | st.integers(0, 3_000_000),
        st.none() | st.integers(0, NOW),
        st.none() | st.integers(0, 3),
    ),
    max_size=12,
)
texts = letters.map(lambda text: '"' + text.replace('"', "") + '"')
parts = st.one_of(
    texts,
    st.sampled_from(["pending", "running", "host_fault", "j1", "1", "name=none", "cost=none"]),
    st.builds(lambda sign, text: f"name{sign}{text}", st.sampled_from([":", "=", "~", "!="]), texts),
    st.builds(lambda sign, cents: f"cost{sign}{cents / 100}", st.sampled_from([":", "<", "<=", ">", ">="]),
              st.integers(0, 400)),
    st.builds(lambda sign, minutes: f"age{sign}{minutes}m", st.sampled_from(["<", ">=", ">"]), st.integers(1, 200)),
    st.builds(lambda sign, number: f"gpus{sign}{number}", st.sampled_from(["=", "!=", "<", ">"]), st.integers(0, 3)),
    st.builds(lambda one, other: f"id:j{one},{other}", st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(["status:p,r", "state:host-fault", "status!=running"]),
)  # fmt: skip
queries = st.lists(st.builds(lambda negated, part: ("!" if negated else "") + part, st.booleans(), parts), max_size=4)


@settings(max_examples=200, deadline=None)
@given(rows=rows, typed=queries.map(" ".join))
def test_sql_and_memory_agree(rows: list[tuple[object, ...]], typed: str) -> None:
    """The rows that SQLite finds are those that match in memory."""
    query = parse_query(typed, FIELDS)
    test, bound = where(query, SQL, NOW, searched=SEARCHED)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, state, name, cost, at, gpus)")
        connection.executemany("INSERT INTO t (state, name, cost, at, gpus) VALUES (?, ?, ?, ?, ?)", rows)
        found = [row[0] for row in connection.execute(f"SELECT id FROM t WHERE {test} ORDER BY id", bound)]
    expected = []
    for number, (state, name, cost, at, gpus) in enumerate(rows, 1):
        age = None if at is None else NOW - at  # type: ignore[operator]
        row = {"status": state, "name": name, "cost": cost, "id": number, "age": age, "gpus": gpus}
        if query.matches(row.get, f"j{number}\n{name or ''}"):
            expected.append(number)
    assert found == expected


@pytest.mark.parametrize("typed", ["'; DROP TABLE t; --", "name:'||(SELECT 1)||'", "name=') OR 1=1 --", "%", "_", "\\"])
def test_nothing_typed_is_part_of_a_statement(typed: str) -> None:
    """It is bound; signs with a meaning for LIKE have none."""
    try:
        query = parse_query(f'"{typed}"', FIELDS)
    except QueryError:
        pytest.fail("a text in quotes can always be read")
    test, bound = where(query, SQL, NOW, searched=SEARCHED)
    assert not any(sign in test for sign in ("DROP", "1=1", "||("))
    assert all(typed.strip("\\%_") in str(value) for value in bound)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name)")
        connection.executemany("INSERT INTO t (name) VALUES (?)", [("plain",), (f"with {typed} in it",)])
        assert [row[0] for row in connection.execute(f"SELECT id FROM t WHERE {test}", bound)] == [2]


def test_every_field_of_the_lists_can_be_asked(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each field of jobs and of events is an expression that SQLite takes."""
    from gpuscale_tui.store.event_list import EVENT_FIELDS
    from tests.store.support import Bench

    bench = Bench(tmp_path_factory.mktemp("fields") / "gpuscale.db")
    values = {"text": "a", "word": "", "label": "1", "number": "1", "percent": "5", "money": "1", "duration": "1h",
              "age": "1h", "size": "1"}  # fmt: skip
    for table, fields, made in (("jobs", JOB_FIELDS, condition), ("events", EVENT_FIELDS, event_condition)):
        for name, kind in fields.items():
            sign = ">" if kind.kind not in {"text", "word", "label"} else ":"
            query = parse_query(f"{name}{sign}{values[kind.kind] or kind.words[0]}", fields)
            test, bound = made(query, NOW)
            assert bench.db.connection.execute(f"SELECT id FROM {table} WHERE {test}", bound).fetchall() == []
    bench.db.close()
