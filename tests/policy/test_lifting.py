"""What would lift a verdict: with that change made, nothing more speaks against the offer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuscale_tui.model.cuda import parse_cuda
from gpuscale_tui.model.offers import Market, Need
from gpuscale_tui.policy.lifting import lift
from gpuscale_tui.policy.matching import offer_verdict
from gpuscale_tui.policy.world import Limits
from tests.policy.support import CENT, LIMITS, NEED, offer

MADE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"rate": 90 * CENT}, {}, "of $0.90"),
    ({"reliability": 0.7239}, {"min_reliability": 0.8}, "min_reliability 0.723"),
    ({"rating": 2.57}, {"min_rating": 3.0}, "min_rating 2.5"),
    ({"country": "CN"}, {"exclude_countries": frozenset({"CN"})}, "countries that allow CN"),
    ({"max_hours": 3.5}, {"min_hours": 4.0}, "min_rental_hours 3"),
    ({"ram_gb": 15.9}, {"min_ram_gb": 16.0}, "min_ram_gb 15"),
    ({"disk_gb": 9.0, "ram_gb": 64.0}, {"min_disk_gb": 20.0}, "min_disk_gb 9"),
    ({"cpu_threads": 3}, {"min_threads_per_gpu": 4.0}, "min_threads_per_gpu 3"),
    ({"net_down_mbps": 12.7}, {"min_net_down_mbps": 50.0}, "min_net_down_mbps 12"),
    ({"pcie_gen": 3, "pcie_width": 1}, {"min_pcie_gb_per_sec": 3.0}, "min_pcie_gb_per_sec 0.98"),
    ({"cuda_version": "11.4"}, {"min_cuda": parse_cuda("11.8")}, 'min_cuda "11.4"'),
]


@pytest.mark.parametrize(("found", "limits", "change"), MADE)
def test_each_verdict_has_its_change(found: dict[str, Any], limits: dict[str, Any], change: str) -> None:
    seen = offer(found.pop("rate", 40 * CENT), **found)
    verdict = offer_verdict(seen, NEED, replace(LIMITS, **limits))
    assert verdict
    assert change in lift(seen, verdict)


def test_verdicts_that_no_setting_makes() -> None:
    seen = offer(gpu_type="H100")
    assert lift(seen, offer_verdict(seen, NEED, LIMITS)) == "a job that asks for H100"
    spot = offer(market=Market.SPOT)
    assert "order_type" in lift(spot, offer_verdict(spot, NEED, replace(LIMITS, order_types={"clore": "on-demand"})))
    theirs = Need("img", "RTX 4090", 1, None, provider="ssh")
    assert "leaves the provider" in lift(offer(), offer_verdict(offer(), theirs, LIMITS))
    image = Need("pytorch:cuda12.4", "RTX 4090", 1, None)
    old = offer(cuda_version="12.1")
    assert lift(old, offer_verdict(old, image, LIMITS)) == "an image for CUDA 12.1"
    short = offer(max_hours=2.0)
    assert lift(short, offer_verdict(short, NEED, LIMITS, 5.0)) == "a shorter max_runtime of the job"
    held = offer(server="9")
    paused = Limits(LIMITS.default_price, paused={("clore", "9"): "paused until 12:00"})
    assert lift(held, offer_verdict(held, NEED, paused)).startswith("wait")
    banned = Limits(LIMITS.default_price, paused={("clore", "9"): "banned by ada"})
    assert lift(held, offer_verdict(held, NEED, banned)).startswith("lift the ban")
    assert lift(held, "") == ""
