"""Why the jobs of a group wait: one decisive reason each, with the smallest change that would lift it."""

from __future__ import annotations

from collections import Counter

from gpuscale_tui.model.money import format_usd
from gpuscale_tui.model.offers import Need
from gpuscale_tui.policy.demand import PATIENCE_MS, Group
from gpuscale_tui.policy.matching import ask_of
from gpuscale_tui.policy.stock import Judged, Markets
from gpuscale_tui.policy.wording import count, seconds, usd_at_least
from gpuscale_tui.policy.world import MarketView, Reason, World


def explain(world: World, group: Group, markets: Markets, waiting: int) -> Reason:
    """Why nothing is rented for a group that did not even ask for it; `waiting` jobs count towards the threshold."""
    if group.ready == 0:
        goes_on = min(job.not_before or world.now for job in group.jobs) - world.now
        return Reason("held", f"held after a fault; goes on in {seconds(goes_on)}")
    if group.uncovered == 0 and group.coming:
        return Reason("booting", f"{count(group.coming, 'machine')} on the way")
    if group.uncovered == 0:
        return Reason("placing", "a machine is free and takes the next job")
    market = markets.view(group.key)
    if market is None:
        return Reason("looking", f"{_later(group)}the market has not been read for it yet")
    judged = markets.of_group(group)
    if judged.cheapest is None:
        return _no_offer(world, group, market, judged)
    if judged.cheapest > world.cap:
        more = f"one more would cost {usd_at_least(judged.cheapest)}/h, over the whole cap of {format_usd(world.cap)}/h"
        return Reason("busy", f"{_later(group)}{more}")
    return Reason("short_queue", f"{_later(group)}one more is rented {_when(world, waiting)}")


def _when(world: World, waiting: int) -> str:
    return (
        f"when {world.scaler.scale_up_threshold} jobs wait without a machine (scale_up_threshold; now {waiting}),"
        f" or when none has become free for {PATIENCE_MS // 60_000} min"
    )


def _later(group: Group) -> str:
    return f"{count(group.servers, 'machine')} will take it when free; " if group.servers else ""


def _no_offer(world: World, group: Group, market: MarketView, judged: Judged) -> Reason:
    """No offer fits: because of what, counted, and whether price is all that is wrong."""
    code = "busy" if group.servers else "no_offer"
    why = Counter(market.rejected)
    why.update(judged.verdicts)
    unheard = f"no answer from the market: {market.errors[0]}" if market.errors else ""
    if unheard and not why:
        return Reason("provider_error", f"{_later(group)}{unheard}")
    if not why:
        near = f"; near it there are {', '.join(market.nearest)}" if market.nearest else ""
        return Reason(code, f"{_later(group)}no provider offers {_wanted(group.need)}{near}: change it, or wait")
    worst_first = sorted(why.items(), key=lambda item: (-item[1], item[0]))
    counted = ", ".join(f"{number} {reason}" for reason, number in worst_first[:4])
    change = _price_that_would_do(world, group.need, judged)
    rest = f"; {unheard}" if unheard else ""
    return Reason(code, f"{_later(group)}no offer of {_wanted(group.need)} fits: {counted}{change}{rest}")


def _wanted(need: Need) -> str:
    return "a machine" if need.gpu_type is None else f"{need.gpu_count}x {need.gpu_type}"


def _price_that_would_do(world: World, need: Need, judged: Judged) -> str:
    """The smallest change of price that would lift the refusal, where price is all that is wrong."""
    if judged.cheapest_dear is None:
        return ""
    ask = ask_of(need, world.limits)
    enough = -(-judged.cheapest_dear // max(1, ask.gpus))
    limit = "max_price_per_gpu" if need.max_price is None else "max_price"
    return f"; a {limit} of {usd_at_least(enough)} instead of {usd_at_least(ask.limit)} would do"
