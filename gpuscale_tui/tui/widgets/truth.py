"""The header's one line in forms from the richest to the leanest: what matters most is the last to go.

The order of importance: that the data is old, money used and reserved against the cap, whether an engine works, what
today costs, for how long the balance lasts, how many jobs run, wait and have failed, machines, the month, what is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gpuscale_tui.store.views import Spend, Status
from gpuscale_tui.store.wallets import Wallet
from gpuscale_tui.tui.format import meter, plural, span, usd
from gpuscale_tui.tui.look import Line, Look, Span, width_of
from gpuscale_tui.tui.messages import EngineState, Snapshot

SILENT_AFTER_MS = 20_000
"""An engine that has not written for so long is called silent."""

STALE_AFTER_MS = 10_000
"""Data that was not looked at for so long is called old: it should be looked at four times a second."""

LOW_HOURS = 6.0
"""A balance that lasts for less is a warning, beside what the notices say."""

LIVE = ("ordering", "booting", "idle", "busy", "releasing")


@dataclass(frozen=True, slots=True)
class Form:
    """How much of each part is said. 0 is nothing, more is more."""

    brand: bool = True
    engine: int = 2
    money: int = 2
    bar: bool = True
    today: int = 2
    month: bool = True
    balance: int = 2
    trouble: int = 2
    counts: int = 3
    done: bool = True


FORMS = (
    Form(),
    Form(engine=1, money=1),
    Form(engine=1, money=1, done=False),
    Form(engine=1, money=1, done=False, bar=False),
    Form(engine=1, money=1, done=False, bar=False, balance=1),
    Form(engine=1, money=1, bar=False, counts=2),
    Form(engine=1, money=1, bar=False, counts=2, month=False),
    Form(engine=1, money=1, bar=False, counts=2, month=False, balance=1),
    Form(engine=1, money=1, bar=False, counts=2, month=False, balance=1, brand=False),
    Form(engine=1, money=1, bar=False, counts=2, month=False, balance=1, brand=False, trouble=1),
    Form(engine=1, money=1, bar=False, counts=2, month=False, balance=1, brand=False, trouble=1, done=False),
    Form(engine=0, money=1, bar=False, counts=2, month=False, balance=1, brand=False, trouble=1, done=False),
    Form(engine=0, money=1, bar=False, counts=2, month=False, balance=1, brand=False, trouble=1, done=False, today=1),
    Form(engine=0, money=1, bar=False, counts=1, month=False, balance=1, brand=False, trouble=1, done=False, today=1),
    Form(engine=0, money=1, bar=False, counts=1, month=False, balance=0, brand=False, trouble=1, done=False, today=1),
    Form(engine=0, money=1, bar=False, counts=0, month=False, balance=1, brand=False, trouble=0, done=False, today=1),
    Form(engine=0, money=1, bar=False, counts=0, month=False, balance=0, brand=False, trouble=0, done=False, today=1),
    Form(engine=0, money=1, bar=False, counts=0, month=False, balance=0, brand=False, trouble=0, done=False, today=0),
)  # fmt: skip
"""From the richest to the leanest."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the header tells of. `age_ms` is how long ago the data was looked at."""

    snapshot: Snapshot
    now: int
    age_ms: int = 0
    readonly: bool = False


def variants(facts: Facts, look: Look, width: int) -> Iterator[Line]:
    """The header from the richest to the leanest."""
    status = facts.snapshot.status
    if status is None:
        yield [(" gpuscale ", "title"), *trouble(facts, look, 2)]
        return
    for form in FORMS:
        left: list[Span] = [(" gpuscale  " if form.brand else " ", "title")]
        left += engine_words(status, facts.snapshot.engine, facts.now, look, form)
        left += [("  read-only", "warn")] if facts.readonly else []
        left += [("  ", "text"), *money_words(status.spend, look, form)]
        left += [*balance_words(status.wallets, look, form.balance), *trouble(facts, look, form.trouble)]
        right = [*count_words(status, look, form), (" ", "text")]
        gap = width - width_of(left) - width_of(right)
        yield [*left, (" " * max(2 if form.counts else 0, gap), "text"), *right]


def trouble(facts: Facts, look: Look, much: int) -> Line:
    """That the store cannot be read, and how old the shown data is therefore."""
    snapshot = facts.snapshot
    if snapshot.error:
        age = span(facts.now - snapshot.taken_at)
        words = ("data", "store unreadable,", "store unreadable, data")[much] + f" {age} old"
    elif facts.age_ms > STALE_AFTER_MS:
        words = f"data {span(facts.age_ms)} old"
    else:
        return ()
    return [(f" {look.glyphs.warn} {words} ", "bad")]


def engine_words(status: Status, engine: EngineState, now: int, look: Look, form: Form) -> list[Span]:
    """Where the engine runs, and whether it shows signs of life; a working one may be a mere sign."""
    signs, heartbeat = look.glyphs, status.engine.heartbeat_at
    silent = heartbeat is not None and now - heartbeat > SILENT_AFTER_MS and engine.kind in {"inside", "attached"}
    if silent and heartbeat is not None:
        words = "engine silent" if form.engine else "silent"
        return [(f"{signs.warn} {words} {span(now - heartbeat)}", "warn")]
    if engine.kind == "inside":
        return [(signs.states["running"] + ("", " inside", " engine inside")[form.engine], "good")]
    if engine.kind == "attached":
        where = "headless" if status.engine.mode == "autopilot" else "attached"
        pid = f" {engine.pid}" if engine.pid else ""
        return [(signs.states["booting"] + ("", f" {where}{pid}", f" {where}{pid}")[form.engine], "good")]
    if engine.kind == "starting":
        return [(f"{signs.states['booting']} starting", "accent")]
    return [(f"{signs.warn} no engine" + (", E starts one" if form.bar else ""), "warn")]


def money_words(spend: Spend, look: Look, form: Form) -> list[Span]:
    """Used, reserved and cap per hour, what today and the month have cost; sign, word and colour near the cap."""
    committed = spend.used + spend.reserved
    role = "bad" if committed > spend.cap else "warn" if committed * 5 >= spend.cap * 4 and committed else "strong"
    sign = f"{look.glyphs.warn} " if role in {"bad", "warn"} else ""
    full, empty = meter(committed, spend.cap, 10, look.glyphs)
    spans: list[Span] = [(f"{sign}{usd(spend.used)}", role)]
    if form.money > 1:
        spans += [(" used + ", "muted"), (usd(spend.reserved), role), (" reserved of ", "muted")]
    else:
        spans += [(f"+{usd(spend.reserved).removeprefix('$')}", role), (" of ", "muted")]
    spans.append((f"{usd(spend.cap)}/h", "text"))
    spans += [(" ", "text"), (full, role if sign else "title"), (empty, "line")] if form.bar else []
    if form.today:
        spans += [("  today " if form.today > 1 else "  d ", "muted"), (usd(spend.today), "strong")]
    return spans + ([("  month ", "muted"), (usd(spend.month), "strong")] if form.month else [])


def balance_words(wallets: tuple[Wallet, ...], look: Look, much: int) -> list[Span]:
    """For how many hours the balance lasts that ends first, at the present rate."""
    lasting = [wallet for wallet in wallets if wallet.hours is not None]
    if not lasting or not much:
        return []
    first = min(lasting, key=lambda wallet: wallet.hours or 0.0)
    hours = first.hours or 0.0
    low = hours < LOW_HOURS or first.low_since is not None
    words = f"{hours:.0f}h" if hours >= 10 else f"{hours:.1f}h"
    words = f"{look.glyphs.warn} {words}" if low else words
    lead = "  balance " if much > 1 else "  "
    return [(lead, "muted"), (words, "warn" if low else "strong"), (" left", "muted")]


def count_words(status: Status, look: Look, form: Form) -> list[Span]:
    """Jobs by state and machines that are up: words where there is room, signs else."""
    machines = sum(status.workers.get(state, 0) for state in LIVE)
    spans: list[Span] = []
    if not form.counts:
        return spans
    for state in ("running", "pending", "done", "failed"):
        count = status.jobs.get(state, 0)
        if (count or (state in {"running", "pending"} and form.brand)) and (form.done or state != "done"):
            sign = look.glyphs.states[state]
            text = f"{sign} {count:,} {state}  " if form.counts > 2 else f"{sign}{count:,} "
            spans.append((text, f"state-{state}"))
    if form.counts > 1:
        spans.append((plural(machines, "machine") if form.counts > 2 else f"{machines} up", "text"))
    return spans
