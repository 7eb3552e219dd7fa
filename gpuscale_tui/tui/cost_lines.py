"""What the costs screen writes beside its table: kinds of time, budgets, wallets, bills, the rate, the forecast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gpuscale_tui.model.budget import Scope
from gpuscale_tui.policy.forecast import Forecast
from gpuscale_tui.policy.world import Allowance
from gpuscale_tui.store.rates import Rate
from gpuscale_tui.store.views import Costs
from gpuscale_tui.store.wallets import Wallet
from gpuscale_tui.tui.format import clean, meter, plural, share, span, usd
from gpuscale_tui.tui.look import Line, Look, first_that_fits, wrap
from gpuscale_tui.tui.widgets.plot import Series, plot_lines

LIMITS_SHOWN = 6
KINDS = (
    ("productive", "good", "a job ran"),
    ("setup", "accent", "machines booted"),
    ("idle", "warn", "machines waited for work"),
    ("rejected", "warn", "machines never became ready"),
    ("lost", "bad", "work that no checkpoint kept"),
)


def bill_lines(costs: Costs, look: Look, width: int) -> list[Line]:
    """By how much the providers' bills differ from their prices, where they do."""
    if not costs.differing:
        return []
    more = "more" if costs.difference > 0 else "less"
    words = f"{more} charged than by the prices, for {plural(costs.differing, 'machine')}"
    return [[("  bills      ", "strong"), (f"{usd(abs(costs.difference)):>9} ", "warn"),
             (look.cut(f"{look.glyphs.warn} {words}", width - 24), "warn")]]  # fmt: skip


def limit_lines(found: tuple[Allowance, ...], look: Look, width: int) -> list[Line]:
    """How far each limit is used, in figures and as a bar: spent and committed of the limit."""
    lines: list[Line] = [[], [("  budgets: spent + committed of the limit", "muted")]] if found else []
    room = max(12, min(30, width - 62))
    for each in found[:LIMITS_SHOWN]:
        out = each.held or each.used > each.limit
        role = "bad" if out else "warn" if each.used * 5 >= each.limit * 4 else "good"
        name = look.cut(clean(f"{each.scope} {each.name}".strip(), ascii_only=look.glyphs.ascii), room)
        sums = f"{usd(each.spent)} + {usd(each.committed)} of {usd(each.limit)}"
        full, empty = meter(each.used, each.limit, max(4, min(24, width - room - 56)), look.glyphs)
        lines.append([
            (f"  {name:<{room}}", "strong"), (f" {share(each.used, each.limit):>6}  ", role), (full, role),
            (empty, "line"), (f"  {sums}", "text"), (f"  {look.glyphs.warn} used up" if out else "", "bad"),
        ])  # fmt: skip
    if len(found) > LIMITS_SHOWN:
        lines.append([(f"  {len(found) - LIMITS_SHOWN} more: gpuscale costs", "muted")])
    return lines


def worth_showing(found: Iterable[Allowance]) -> tuple[Allowance, ...]:
    """The limits, the one that is used most first; those of single jobs only where they begin to matter."""
    shown = [each for each in found if each.scope != Scope.JOB or each.held or each.used * 2 >= each.limit]
    return tuple(sorted(shown, key=lambda each: -each.used / max(1, each.limit)))


def wallet_lines(found: tuple[Wallet, ...], look: Look, width: int) -> list[Line]:
    """What is left to pay with: one line a provider, cut to the width."""
    lines: list[Line] = []
    for wallet in found:
        lasts = "" if wallet.hours is None else f"  {wallet.hours:.1f} h at {usd(wallet.rate)}/h"
        name = clean(f"{wallet.provider} {wallet.name}", ascii_only=look.glyphs.ascii)
        low = "  low" if wallet.low_since is not None else ""
        room = max(0, width - 25 - len(lasts) - len(low))
        lines.append([
            ("  wallet     ", "strong"), (f"{usd(wallet.left):>9} ", "text"), (lasts, "warn" if low else "muted"),
            (low, "bad"), (f"  {name[:room]}", "muted"),
        ])  # fmt: skip
    return lines


def kind_lines(costs: Costs, look: Look, width: int) -> list[Line]:
    """One line a kind of time, with its part of the whole as a bar."""
    bar = max(8, min(40, width - 62))
    lines: list[Line] = [[]]
    for kind, role, words in KINDS:
        amount = getattr(costs, kind)
        full, empty = meter(amount, costs.total, bar, look.glyphs)
        lines.append([
            (f"  {kind:<11}", "strong"), (f"{usd(amount):>9} ", "text"),
            (f"{share(amount, costs.total):>6}  ", "muted"), (full, role), (empty, "line"), (f"  {words}", "muted"),
        ])  # fmt: skip
    return lines


def price_word(value: float) -> str:
    """`$0.38`."""
    return f"${value:.2f}"


def rate_lines(found: Sequence[Rate], cap: int, look: Look, width: int, height: int) -> list[Line]:
    """The rate over time as a plot, with the cap of now as a line."""
    highest = Series("highest $/h", tuple((float(each.at), each.peak / 1e6) for each in found), stairs=True)
    mean = Series("mean", tuple((float(each.at), each.mean / 1e6) for each in found), stairs=True)
    used = any(each.peak for each in found)
    return plot_lines(
        [highest, mean] if used else [], width, height, look, time=True, words=price_word,
        cap=cap / 1e6 if cap else None, floor=0.0, empty="nothing was rented in this time",
    )  # fmt: skip


def forecast_line(found: Forecast, width: int, look: Look) -> Line:
    """When the queue is done and for how much, in one line."""
    lead = ("  forecast   ", "strong")
    if not found.jobs:
        return [lead, ("nothing waits or runs", "muted")]
    if found.done_in is None:
        why = "not to be said: nothing is known of them" if not found.counted else "the budgets never allow all of it"
        return [lead, (look.cut(f"{plural(found.jobs, 'open job')}: {why}", width - 13), "warn")]
    of = "" if found.counted == found.jobs else f" of {found.jobs:,}"
    time, cost = found.done_in, found.cost
    rich: Line = [
        lead, (f"{found.counted:,}{of} jobs done", "text"), (f" in about {span(time.likely)}", "strong"),
        (f" ({span(time.low)} to {span(time.high)})", "text"), (f" for {usd(cost.likely)} more", "strong"),
        (f" ({usd(cost.low)} to {usd(cost.high)})", "text"),
    ]  # fmt: skip
    lean: Line = [
        lead, (f"{found.counted:,}{of} jobs", "text"), (f" in {span(time.likely)}", "strong"),
        (f" ({span(time.low)}-{span(time.high)})", "text"), (f", {usd(cost.likely)}", "strong"),
        (f" ({usd(cost.low)}-{usd(cost.high)})", "text"),
    ]  # fmt: skip
    return first_that_fits([rich, lean], width)


def forecast_lines(found: Forecast, look: Look, width: int, now: int) -> list[Line]:
    """The forecast in full: the line, when that would be, and what it rests on."""
    lines: list[Line] = [[], forecast_line(found, width, look)]
    if found.jobs and found.done_in is not None:
        times = [look.when(now + at, now) for at in (found.done_in.low, found.done_in.likely, found.done_in.high)]
        lines.append([("  done       ", "muted"), (times[1], "text"), (f"  ({times[0]} to {times[2]})", "muted")])
    if found.unknown:
        lines.append(
            [("  unknown    ", "muted"), (f"{plural(found.unknown, 'job')} of no known length: not in it", "warn")]
        )
    for number, words in enumerate(found.basis):
        for place, text in enumerate(wrap(clean(words, ascii_only=look.glyphs.ascii), max(20, width - 14))):
            first = "  rests on   " if number == 0 and place == 0 else " " * 13
            lines.append([(first, "muted"), (text, "text")])
    return lines
