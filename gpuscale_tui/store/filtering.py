"""A query of `model.query` as a condition of SQL. Nothing that was typed is ever part of a statement: it is bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuscale_tui.model.query import Query, Term, spellings


@dataclass(frozen=True, slots=True)
class SqlField:
    """Where a field is found: an expression of SQL, ours and never a user's.

    `{now}` in it is the present time (UTC ms). `within` is put round the condition (its `{}`), for a field that is in
    another table: `id IN (SELECT job_id FROM attempts WHERE {})`.
    """

    expression: str
    within: str = "{}"


def where(
    query: Query, columns: Mapping[str, SqlField], now: int = 0, *, searched: Sequence[str] = ()
) -> tuple[str, tuple[object, ...]]:
    """A condition and what it binds; `1` for a query that lets everything through.

    `columns` has a field for each one of the query's. `searched` are the expressions in any of which a bare word is
    looked for. `now` (UTC ms) is what ages are reckoned from.
    """
    conditions: list[str] = []
    bound: list[object] = []
    for term in query.terms:
        column = columns[term.field] if term.field else SqlField("")
        expressions = [column.expression] if term.field else searched
        tests: list[str] = []
        for value in term.values:
            for expression in expressions:
                test, values = _test(expression.replace("{now}", str(int(now))), term, value)
                tests.append(test)
                bound += values
        either = column.within.replace("{}", " OR ".join(tests) or "0")
        # without a value a comparison is neither true nor false, and so would be its opposite
        conditions.append(f"NOT coalesce(({either}), 0)" if term.negated else f"({either})")
    return " AND ".join(conditions) or "1", tuple(bound)


def _test(expression: str, term: Term, value: str | int | float | None) -> tuple[str, tuple[object, ...]]:
    if value is None:
        return f"({expression}) IS NULL", ()
    if not isinstance(value, str):
        operator = "=" if term.operator == "has" else term.operator
        return f"({expression}) {operator} ?", (value,)
    ways = spellings(value)
    if term.operator == "has":
        test = f"({expression}) LIKE ? ESCAPE '\\'"
        return " OR ".join([test] * len(ways)), tuple(f"%{_escaped(way)}%" for way in ways)
    return f"({expression}) COLLATE NOCASE IN ({', '.join('?' * len(ways))})", ways


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
