"""Many things at once: one question that says how many and what they cost together, and one undo for all of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpuscale_tui.tui.format import plural, rate, span, usd

if TYPE_CHECKING:
    from gpuscale_tui.store.many import ManyJobs, ManyWorkers
    from gpuscale_tui.tui.app import GpuscaleApp

TYPED_ABOVE = 20
"""More than so many are only done after their number was typed."""


def batches(ids: Iterable[int]) -> Iterator[list[int]]:
    """The ids in order, in parts that one transaction takes."""
    from gpuscale_tui.engine.steps import BATCH

    every = iter(sorted(ids))
    while batch := list(itertools.islice(every, BATCH)):
        yield batch


@dataclass(frozen=True, slots=True)
class Ask:
    """A question about `count` things: what it costs, and the words of yes."""

    title: str
    text: Sequence[str]
    yes: str
    count: int


def ask_about_many(app: GpuscaleApp, ask: Ask, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Ask, and do it when the answer is yes; a large number has to be typed."""
    from gpuscale_tui.tui.widgets.confirm import TypedNumber, confirm

    large = ask.count > TYPED_ABOVE
    question = TypedNumber(ask.title, ask.text, ask.count) if large else confirm(ask.title, ask.text, ask.yes)
    app.push_screen(question, lambda sure: app.spawn(act()) if sure else None)


def after_marks(screen: object, *, keep: bool = False) -> None:
    """What was marked is done: the marks go, unless they are kept for the next step."""
    mark = getattr(screen, "mark", None)
    if mark is not None and not keep and getattr(screen, "marked", None):
        mark(frozenset())


def cancel_costs_of_many(many: ManyJobs, marked: int) -> list[str]:
    """What cancelling many jobs costs and loses."""
    running, pending = many.count("running"), many.count("pending")
    parts = [plural(running, "running one")] if running else []
    parts += [f"{pending:,} waiting"] if pending else []
    rest = marked - running - pending
    ended = f" {plural(rest, 'marked one')} ended already." if rest else ""
    text = [f"{' and '.join(parts)}; together they have cost {usd(many.open_cost)} so far.{ended}"]
    if running:
        lost = f"{span(many.unsaved_ms)} of work ({usd(many.unsaved_cost)})"
        text.append(f"Those that run are told to stop and save; {lost} stand in no snapshot yet.")
    text.append("The key r puts them back in the queue later.")
    return text


def release_costs_of_many(many: ManyWorkers, marked: int) -> list[str]:
    """What giving many machines back saves and loses."""
    text = [f"They cost {rate(many.rate)} together and have cost {usd(many.cost)}."]
    if many.busy:
        text.append(
            f"{plural(many.busy, 'job')} on them: told to stop and save, then back in the queue;"
            f" {span(many.unsaved_ms)} of work ({usd(many.unsaved_cost)}) stand in no snapshot yet."
        )
    rest = marked - many.up
    if rest:
        text.append(f"{plural(rest, 'marked machine')} {'is' if rest == 1 else 'are'} gone or going back already.")
    text.append("Others may be rented when jobs wait.")
    return text
