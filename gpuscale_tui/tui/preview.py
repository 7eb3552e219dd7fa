"""What a submission would mean before it is sent: offers, price, wait, and whether the cap allows it. No Textual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpuscale_tui.model.gpus import same_gpu
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.money import HOUR_MS, parse_usd
from gpuscale_tui.model.offers import Need
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.store.market import OfferRow
from gpuscale_tui.store.views import Spend, WorkerRow
from gpuscale_tui.tui.draft import Checked
from gpuscale_tui.tui.format import gpus, plural, rate, span, usd
from gpuscale_tui.tui.look import Line

JUDGED_FOR_ANOTHER = ("over the price limit", "another GPU", "not ")
"""Verdicts of the last reading that were about another job's need: they are judged anew."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the form knows of the world. `doubts` are sentences about jobs that hardly ever find a machine."""

    offers: tuple[OfferRow, ...]
    workers: tuple[WorkerRow, ...]
    waiting: int
    doubts: tuple[str, ...] = ()


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
        and (not offer.verdict or offer.verdict.startswith(JUDGED_FOR_ANOTHER))
    ]


def per_gpu(offer: OfferRow, need: Need) -> int:
    """What the need pays for each GPU of an offer."""
    return -(-offer.rate // max(1, need.gpu_count))


def preview(checked: Checked, around: Surroundings, spend: Spend, settings: Settings) -> list[Line]:
    """Three lines: how many jobs and how long they wait; what they cost; what the cap says."""
    if checked.errors:
        wrong = ", ".join(checked.errors)
        return [[(f"{plural(len(checked.errors), 'field')} to put right: {wrong}", "warn")], [], []]
    need = checked.specs[0].need
    return [
        [(plural(checked.jobs, "job"), "strong"), (f" on {gpus(need.gpu_type, max(1, need.gpu_count))}: ", "text"),
         *_wait(need, around, settings)],
        _price(need, around, settings),
        _cap(checked, need, around, spend, settings),
    ]  # fmt: skip


def _wait(need: Need, around: Surroundings, settings: Settings) -> Line:
    idle = [worker for worker in around.workers if worker.state == "idle" and _serves(worker, need, settings)]
    if idle:
        return [(f"{worker_label(idle[0].id)} is idle and fits, so it begins at once", "good")]
    behind = f"{around.waiting:,} wait already; " if around.waiting else ""
    return [(f"{behind}a machine is rented first", "text")]


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


def _cap(checked: Checked, need: Need, around: Surroundings, spend: Spend, settings: Settings) -> Line:
    left = max(0, spend.cap - spend.used - spend.reserved)
    prices = [offer.rate for offer in of_type(around.offers, need) if per_gpu(offer, need) <= limit_of(need, settings)]
    price = min(prices, default=limit_of(need, settings) * max(1, need.gpu_count))
    room = left // price if price else checked.jobs
    words = f"the cap leaves {rate(left)}: {room} more such {'machine fits' if room == 1 else 'machines fit'} now"
    seconds = checked.specs[0].max_runtime_sec
    most = ""
    if seconds:
        worst = limit_of(need, settings) * max(1, need.gpu_count) * seconds * 1000 // HOUR_MS
        most = f"; at most {usd(worst * checked.jobs)} for {span(seconds * 1000)} each"
    return [(words, "text" if room else "warn"), (most, "muted")]
