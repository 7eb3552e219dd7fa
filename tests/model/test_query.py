"""The language of filters: what is typed means what it says, and what cannot be read says why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.model.query import (
    AGE,
    DURATION,
    MONEY,
    NUMBER,
    PERCENT,
    SIZE,
    TEXT,
    Query,
    QueryError,
    Term,
    label,
    parse_query,
    words,
)

STATE = words("pending", "running", "done", "failed", "cancelled", bare=True)
FIELDS = {
    "status": STATE, "state": STATE.named("status"), "name": TEXT, "cost": MONEY, "id": label("j"), "gpus": NUMBER,
    "age": AGE, "ran": DURATION, "part": PERCENT, "size": SIZE, "cause": words("host_fault", "user_error"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "terms"),
    [
        ("", ()),
        ("whisper", (Term("", "has", ("whisper",)),)),
        ("failed running", (Term("status", "=", ("failed", "running")),)),
        ("failed lr", (Term("status", "=", ("failed",)), Term("", "has", ("lr",)))),
        ("!failed", (Term("status", "=", ("failed",), True),)),
        ("status:failed,cancelled", (Term("status", "=", ("failed", "cancelled")),)),
        ("state=done", (Term("status", "=", ("done",)),)),
        ("status!=done", (Term("status", "=", ("done",), True),)),
        ("status:d", (Term("status", "=", ("done",)),)),
        ("cause:host-fault", (Term("cause", "=", ("host_fault",)),)),
        ("name~lr", (Term("name", "has", ("lr",)),)),
        ("NAME:lr", (Term("name", "has", ("lr",)),)),
        ("name=LR", (Term("name", "=", ("LR",)),)),
        ("name=none", (Term("name", "=", (None,)),)),
        ("!name:a,b", (Term("name", "has", ("a", "b"), True),)),
        ('name:"two words"', (Term("name", "has", ("two words",)),)),
        ('name:"a,b"', (Term("name", "has", ("a,b",)),)),
        ('"two words" x', (Term("", "has", ("two words",)), Term("", "has", ("x",)))),
        ('"failed"', (Term("", "has", ("failed",)),)),
        ('"status:failed"', (Term("", "has", ("status:failed",)),)),
        ('"not closed', (Term("", "has", ("not closed",)),)),
        ("lr=1e-3", (Term("", "has", ("lr=1e-3",)),)),
        ("cost>1.5", (Term("cost", ">", (1_500_000,)),)),
        ("cost<=$2", (Term("cost", "<=", (2_000_000,)),)),
        ("id:j17,3", (Term("id", "=", (17, 3)),)),
        ("age<90m", (Term("age", "<", (5_400_000,)),)),
        ("ran>=1h30m", (Term("ran", ">=", (5_400_000,)),)),
        ("part>50%", (Term("part", ">", (0.5,)),)),
        ("size>1.5GB", (Term("size", ">", (1_500_000_000,)),)),
        ("size<1KiB", (Term("size", "<", (1024,)),)),
        ("gpus=2", (Term("gpus", "=", (2,)),)),
    ],
)
def test_what_is_typed(typed: str, terms: tuple[Term, ...]) -> None:
    """Each form of the language, and what it means."""
    assert parse_query(typed, FIELDS).terms == terms


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("statu:failed", "statu:failed: there is no field 'statu'; did you mean 'status'?"),
        ("nme=x", "did you mean 'name'?"),
        ("foo:1", "fields are status, name, cost"),
        ("status:", "status:: one of pending, running, done, failed, cancelled"),
        ("status:x", "no such status; it is one of pending"),
        ("status:faild", "did you mean 'failed'?"),
        ("cost>", "a value is missing, such as 1.50"),
        ("cost>dear", "'dear' is no amount of dollars, such as 1.50"),
        ("cost~1", "cost is no text"),
        ("name>3", "name cannot be compared: write name:value"),
        ("age:3h", "compare it: age<2h or age>2h"),
        ("id:w3", "'w3' is no id, such as j17"),
        ("gpus>99999999999999999999", "is no number"),
        ("size>40000000T", "is too large"),
        ("!", "what should not be there?"),
        ("x" * 501, "500 characters at most"),
    ],
)
def test_what_cannot_be_read_says_why(typed: str, said: str) -> None:
    """The word, the reason, what is allowed, the nearest name."""
    with pytest.raises(QueryError) as caught:
        parse_query(typed, FIELDS)
    assert said in str(caught.value)


def test_words_are_found_in_any_case() -> None:
    """Also beyond ASCII, as typed, small, large and as a name."""
    row = {"name": "Über-Große Läufe", "cost": None}
    for typed in ("über", "ÜBER", "name:LÄUFE", "!cost>0", "cost=none", '"große l"'):
        assert parse_query(typed, FIELDS).matches(row.get, row["name"] or ""), typed
    for typed in ("unter", "cost>0", "cost<1", "!name:über"):
        assert not parse_query(typed, FIELDS).matches(row.get, row["name"] or ""), typed


@given(st.text(max_size=40))
def test_anything_typed_is_read_or_refused(typed: str) -> None:
    """Nothing that is typed or pasted breaks the program."""
    try:
        query = parse_query(typed, FIELDS)
    except QueryError:
        return
    assert isinstance(query, Query)
    query.matches({}.get, typed)


@given(st.text(alphabet=st.characters(exclude_characters='"', exclude_categories=("Cs",)), min_size=1, max_size=30))
def test_a_text_in_quotes_is_looked_for_as_it_is(text: str) -> None:
    """No character has a meaning in quotes."""
    (term,) = parse_query(f'"{text}"', FIELDS).terms
    assert term == Term("", "has", (text,))
    assert term.holds(f"before {text} after")
