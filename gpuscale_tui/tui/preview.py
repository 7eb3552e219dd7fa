"""What a submission would mean before it is sent: offers, price, wait, and whether the cap allows it. No Textual."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpuscale_tui.engine import budgets, intake, outlook
from gpuscale_tui.model.budget import Scope, budget_of
from gpuscale_tui.model.gpus import same_gpu
from gpuscale_tui.model.jobs import JobSpec, worker_label
from gpuscale_tui.model.money import parse_usd
from gpuscale_tui.model.offers import Need
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.policy.budget import explained, titled
from gpuscale_tui.policy.forecast import USUAL_BOOT, Duration, Range, cost_of, past_of
from gpuscale_tui.policy.world import Allowance
from gpuscale_tui.store import market, queries
from gpuscale_tui.store import outlook as store_outlook
from gpuscale_tui.store.market import OfferRow
from gpuscale_tui.store.views import Spend, WorkerRow
from gpuscale_tui.tui.draft import Checked
from gpuscale_tui.tui.format import clean, gpus, plural, rate, span, usd
from gpuscale_tui.tui.look import Line

UP = frozenset({"ordering", "booting", "idle", "busy", "releasing"})
JUDGED_FOR_ANOTHER = ("over the price limit", "another GPU", "not ")
"""Verdicts of the last reading that were about another job's need: they are judged anew."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the form knows of the world. `doubts` are sentences about jobs that hardly ever find a machine.

    `duration` is how long such a job takes, `boot` how long a machine takes to be up, `limits` every limit of money.
    """

    offers: tuple[OfferRow, ...]
    workers: tuple[WorkerRow, ...]
    waiting: int
    doubts: tuple[str, ...] = ()
    duration: Duration | None = None
    boot: Range = USUAL_BOOT
    limits: tuple[Allowance, ...] = ()


def look_around(connection: sqlite3.Connection, spec: JobSpec | None, settings: Settings, now: int) -> Surroundings:
    """Read everything that the preview of a job goes by; without a job what is the same for all."""
    waiting = queries.status(connection, now, 0).jobs.get("pending", 0)
    around = Surroundings(tuple(market.offers(connection)), tuple(queries.worker_rows(connection)), waiting)
    if spec is None:
        return around
    boots = past_of(store_outlook.boots(connection), "machines")
    return replace(
        around,
        doubts=tuple(intake.doubts(connection, [spec], settings)),
        duration=outlook.expected(connection, spec.name, spec.project, spec.gpu_type, spec.max_runtime_sec),
        boot=USUAL_BOOT if boots is None else boots.took,
        limits=budgets.look(connection, budget_of(settings), None, now).allowances,
    )


def limit_of(need: Need, settings: Settings) -> int:
    """Micro-dollars an hour and GPU that a need may cost."""
    return need.max_price if need.max_price is not None else parse_usd(settings.scaler.max_price_per_gpu)


def of_type(offers: Sequence[OfferRow], need: Need) -> list[OfferRow]:
    """The offers of the right GPU, as many of them, from the right provider, that nothing else speaks against."""
    return [
        offer
        for offer in offers
        if (need.gpu_type is None or (offer.gpu_type is not None and same_gpu(offer.gpu_type, need.gpu_type)))
        and offer.gpu_count >= need.gpu_count
        and need.provider in {None, offer.provider}
        and need.market in {None, offer.market}
        and (not offer.verdict or offer.verdict.startswith(JUDGED_FOR_ANOTHER))
    ]


def per_gpu(offer: OfferRow, need: Need) -> int:
    """What the need pays for each GPU of an offer."""
    return -(-offer.rate // max(1, need.gpu_count))


def preview(checked: Checked, around: Surroundings, spend: Spend, settings: Settings) -> list[Line]:
    """Four lines: how many jobs and how long they wait; the offers; what they cost; whether that is allowed."""
    if checked.errors:
        wrong = ", ".join(checked.errors)
        return [[(f"{plural(len(checked.errors), 'field')} to put right: {wrong}", "warn")], [], [], []]
    need = checked.specs[0].need
    return [
        [(plural(checked.jobs, "job"), "strong"), (f" on {gpus(need.gpu_type, max(1, need.gpu_count))}: ", "text"),
         *_wait(need, around, settings)],
        _price(need, around, settings),
        _cost(checked, need, around, settings),
        _allowed(checked, need, around, spend, settings),
    ]  # fmt: skip


def _wait(need: Need, around: Surroundings, settings: Settings) -> Line:
    idle = [worker for worker in around.workers if worker.state == "idle" and _serves(worker, need, settings)]
    if idle:
        return [(f"{worker_label(idle[0].id)} is idle and fits, so it begins at once", "good")]
    behind = f"{around.waiting:,} wait already; " if around.waiting else ""
    boot = around.boot
    return [(f"{behind}a new machine is up in about {span(boot.likely)}", "text"),
            (f" ({span(boot.low)} to {span(boot.high)})", "muted")]  # fmt: skip


def _serves(worker: WorkerRow, need: Need, settings: Settings) -> bool:
    return (
        (need.gpu_type is None or (worker.gpu_type is not None and same_gpu(worker.gpu_type, need.gpu_type)))
        and worker.gpu_count >= need.gpu_count
        and need.provider in {None, worker.provider}
        and -(-worker.rate // max(1, need.gpu_count)) <= limit_of(need, settings)
    )


def _price(need: Need, around: Surroundings, settings: Settings) -> Line:
    if around.doubts:
        return [(around.doubts[0], "warn")]
    limit, known = limit_of(need, settings), of_type(around.offers, need)
    if not known:
        return [("the market has not been read for this GPU yet; the engine does that next", "muted")]
    fitting = sorted((offer for offer in known if per_gpu(offer, need) <= limit), key=lambda offer: offer.rate)
    if not fitting:
        cheapest = min(per_gpu(offer, need) for offer in known)
        return [(f"no offer within {usd(limit)}/h and GPU now: the cheapest is {usd(cheapest)}", "warn")]
    return [
        (f"{plural(len(fitting), 'offer')} within {usd(limit)}/h and GPU", "good"),
        (", " + _between(fitting[0].rate, fitting[-1].rate), "text"),
    ]


def _between(least: int, most: int) -> str:
    """One price, or from one to another."""
    return f"{rate(least)} a machine" if usd(least) == usd(most) else f"{rate(least)} to {rate(most)} a machine"


def _rates(need: Need, around: Surroundings, settings: Settings) -> list[int]:
    """Rates of the machines that could serve a need, the cheapest first; its limit where none is known."""
    limit = limit_of(need, settings)
    found = sorted(offer.rate for offer in of_type(around.offers, need) if per_gpu(offer, need) <= limit)
    return found or [limit * max(1, need.gpu_count)]


def cost_range(need: Need, around: Surroundings, settings: Settings) -> Range | None:
    """What one such job may cost (micro-dollars); None where nothing is known of how long it takes."""
    took = around.duration.took if around.duration else None
    if took is None:
        return None
    rates = _rates(need, around, settings)
    least, most = cost_of(took, rates[0]), cost_of(took, rates[-1])
    return Range(least.low, least.likely, max(most.high, least.likely))


def _cost(checked: Checked, need: Need, around: Surroundings, settings: Settings) -> Line:
    each = cost_range(need, around, settings)
    if each is None or around.duration is None or around.duration.took is None:
        return [("what it will cost is not known: no job like it has finished yet, and max runtime is empty", "muted")]
    took = around.duration.took
    if not took.low:  # nothing but its max_runtime is known
        return [(f"at most {usd(each.high * checked.jobs)}", "strong"),
                (f" for {span(took.high)} each: its max runtime is all that is known", "muted")]  # fmt: skip
    total = each.times(checked.jobs)
    of_all = f", {usd(total.likely)} ({usd(total.low)} to {usd(total.high)}) in all" if checked.jobs > 1 else ""
    return [(f"about {usd(each.likely)} each ({usd(each.low)} to {usd(each.high)}){of_all}", "strong"),
            (f", {span(took.likely)} by {clean(around.duration.basis)}", "muted")]  # fmt: skip


def _allowed(checked: Checked, need: Need, around: Surroundings, spend: Spend, settings: Settings) -> Line:
    """The first thing that speaks against it, with the figure that would change that; else how much room there is."""
    each = cost_range(need, around, settings)
    total = (each.likely if each else 0) * checked.jobs
    refused = [words for limit in around.limits if (words := _refusal(limit, checked, total))]
    per_job = settings.budget.per_job
    if per_job is not None and each is not None and each.high > parse_usd(per_job):
        refused.append(f"one may cost {usd(each.high)}, a job {usd(parse_usd(per_job))}: raise [budget] per_job")
    if refused:
        return [(refused[0], "warn"), (f" (and {len(refused) - 1} more limits)" if len(refused) > 1 else "", "warn")]
    left = max(0, spend.cap - spend.used - spend.reserved)
    price = _rates(need, around, settings)[0]
    room = left // price if price else checked.jobs
    words = f"the cap leaves {rate(left)}: {room} more such {'machine fits' if room == 1 else 'machines fit'} now"
    if not room:
        more = usd(price - left)
        return [(f"{words}; it waits until a machine goes back, or max_hourly_budget is {more} higher", "warn")]
    up, most = sum(worker.state in UP for worker in around.workers), settings.scaler.max_workers
    if up >= most:
        return [
            (f"all {most} machines of max_workers are up: it waits for one of them, or a higher max_workers", "warn")
        ]
    return [(words, "text"), (_room_of(around.limits), "muted")]


def _refusal(limit: Allowance, checked: Checked, total: int) -> str:
    """Why a limit does not allow so much more, or nothing."""
    spec = checked.specs[0]
    about = {Scope.PROJECT: spec.project, Scope.USER: spec.user}
    if limit.scope in {Scope.JOB, Scope.HOUR} or (limit.scope in about and about[limit.scope] != limit.name):
        return ""
    left = max(0, limit.limit - limit.used)
    if limit.held or not left:
        return explained(limit)
    if total <= left:
        return ""
    return f"{titled(limit)} leaves {usd(left)} and these may cost {usd(total)}: {usd(limit.used + total)} would do"


def _room_of(limits: Sequence[Allowance]) -> str:
    """What is left of the limits on a day and a month."""
    words = [
        f"{usd(max(0, limit.limit - limit.used))} left {when}"
        for scope, when in ((Scope.DAY, "today"), (Scope.MONTH, "this month"))
        for limit in limits
        if limit.scope == scope
    ]
    return "".join(f"; {each}" for each in words)
