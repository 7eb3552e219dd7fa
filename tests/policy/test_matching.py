"""What fits what: GPU models to the letter, counts, images, prices, providers, markets; and which offer is best."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.model.offers import Market, Need
from gpuscale_tui.policy.matching import (
    ask_of,
    best_offer,
    machine_serves,
    offer_verdict,
    pcie_gb_per_sec,
    verdict_in_full,
)
from gpuscale_tui.policy.reputation import expected_cost
from gpuscale_tui.policy.scaling import plan
from gpuscale_tui.policy.stock import Stock
from gpuscale_tui.policy.world import Limits
from tests.policy.strategies import NEEDS, SEEDS, SIZES, market
from tests.policy.support import CENT, DOLLAR, LIMITS, NEED, job, machine, offer, world

SAME = ("RTX 4090", "1x NVIDIA GeForce RTX 4090", "rtx4090", "4090", " NVIDIA RTX 4090 ")
DIFFERENT = (
    "RTX 4090 Laptop GPU", "RTX 4090 D", "RTX 4080", "RTX 4080 SUPER", "RTX 3090", "RTX 3090 Ti", "RTX A4000",
    "RTX 409", "RTX 40900", "mixed",
)  # fmt: skip


class TestGpu:
    @pytest.mark.parametrize("spelling", SAME)
    def test_one_model_has_many_spellings(self, spelling: str) -> None:
        assert machine_serves(machine(gpu_type=spelling), NEED, LIMITS)
        assert machine_serves(machine(), replace(NEED, gpu_type=spelling), LIMITS)
        assert offer_verdict(offer(gpu_type=spelling), NEED, LIMITS) == ""

    @pytest.mark.parametrize("model", [*DIFFERENT, None])
    def test_a_like_name_is_another_model(self, model: str | None) -> None:
        assert not machine_serves(machine(gpu_type=model), NEED, LIMITS)
        assert offer_verdict(offer(gpu_type=model), NEED, LIMITS) == "another GPU"

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [("RTX 3080", "RTX 3080 Ti"), ("RTX 3080 Ti", "RTX 3080"), ("RTX 4070 Ti", "RTX 4070 Ti SUPER"),
         ("H100", "H100 80GB HBM3 MIG 1g.10gb"), ("L40", "L40S"), ("L4", "L40"), ("A10", "A100")],
    )  # fmt: skip
    def test_suffixes_tell_models_apart(self, wanted: str, found: str) -> None:
        assert not machine_serves(machine(gpu_type=found), replace(NEED, gpu_type=wanted), LIMITS)
        assert offer_verdict(offer(gpu_type=found), replace(NEED, gpu_type=wanted), LIMITS) == "another GPU"

    @pytest.mark.parametrize(("has", "needs", "fits"), [(1, 1, True), (2, 1, True), (1, 2, False), (4, 4, True)])
    def test_at_least_the_count(self, has: int, needs: int, fits: bool) -> None:
        need = replace(NEED, gpu_count=needs)
        assert machine_serves(machine(gpu_count=has), need, LIMITS) is fits
        assert (offer_verdict(offer(gpu_count=has), need, LIMITS) == "") is fits

    @pytest.mark.parametrize("model", ["RTX 4090", "H100", None])
    def test_a_job_without_gpu_runs_anywhere(self, model: str | None) -> None:
        need = Need("img", None, 0, None)
        assert machine_serves(machine(gpu_type=model, gpu_count=0 if model is None else 8), need, LIMITS)
        assert offer_verdict(offer(gpu_type=model), need, LIMITS) == ""


class TestPrice:
    """The limit is per GPU that the job asked for: GPUs that it did not ask for are no bargain."""

    @pytest.mark.parametrize(
        ("rate", "has", "needs", "fits"),
        [
            (50 * CENT, 1, 1, True), (50 * CENT + 1, 1, 1, False), (100 * CENT, 2, 2, True),
            (100 * CENT + 1, 2, 2, False), (60 * CENT, 8, 1, False), (50 * CENT, 8, 1, True), (150 * CENT, 4, 3, True),
        ],
    )  # fmt: skip
    def test_exactly_the_limit_is_within_it(self, rate: int, has: int, needs: int, fits: bool) -> None:
        need = replace(NEED, gpu_count=needs)
        assert machine_serves(machine(rate=rate, gpu_count=has), need, LIMITS) is fits
        verdict = offer_verdict(offer(rate, gpu_count=has), need, LIMITS)
        assert verdict == ("" if fits else "over the price limit of $0.50/h per GPU")

    def test_a_jobs_own_limit_wins_over_the_setting(self) -> None:
        assert offer_verdict(offer(60 * CENT), replace(NEED, max_price=60 * CENT), LIMITS) == ""
        assert offer_verdict(offer(40 * CENT), replace(NEED, max_price=39 * CENT), LIMITS).startswith("over the price")

    def test_without_a_gpu_the_limit_is_for_the_machine(self) -> None:
        need = Need("img", None, 0, None)
        assert machine_serves(machine(gpu_type="H100", gpu_count=8, rate=50 * CENT), need, LIMITS)
        assert not machine_serves(machine(gpu_type="H100", gpu_count=8, rate=50 * CENT + 1), need, LIMITS)


class TestTheRest:
    def test_image(self) -> None:
        assert not machine_serves(machine(image="other"), NEED, LIMITS)
        assert machine_serves(machine(image=None), NEED, LIMITS)

    def test_provider(self) -> None:
        own = replace(NEED, provider="ssh")
        assert not machine_serves(machine(), own, LIMITS)
        assert machine_serves(machine(provider="ssh"), own, LIMITS)
        assert offer_verdict(offer(), own, LIMITS) == "not from ssh"
        assert offer_verdict(offer(provider="ssh"), own, LIMITS) == ""

    def test_market(self) -> None:
        spot = replace(NEED, market=Market.SPOT)
        assert not machine_serves(machine(), spot, LIMITS)
        assert machine_serves(machine(market=Market.SPOT), spot, LIMITS)
        assert offer_verdict(offer(), spot, LIMITS) == "not spot"
        assert (
            offer_verdict(offer(market=Market.SPOT), replace(NEED, market=Market.ON_DEMAND), LIMITS) == "not on-demand"
        )

    def test_paused_server_of_that_provider_only(self) -> None:
        limits = replace(LIMITS, paused={("clore", "7"): "never came up"})
        assert offer_verdict(offer(server="7"), NEED, limits) == "paused after a failure"
        assert offer_verdict(offer(server="8"), NEED, limits) == ""
        assert offer_verdict(offer(server="7", provider="ssh"), NEED, limits) == ""

    @pytest.mark.parametrize(("reliability", "fits"), [(0.8, True), (0.7999, False), (None, True), (1.0, True)])
    def test_reliability(self, reliability: float | None, fits: bool) -> None:
        limits = replace(LIMITS, min_reliability=0.8)
        verdict = offer_verdict(offer(reliability=reliability), NEED, limits)
        assert verdict == ("" if fits else "reliability below 0.8")

    @pytest.mark.parametrize("written", ["KP", "kp", "Kp"])
    @pytest.mark.parametrize("found", ["KP", "kp"])
    def test_country_in_either_case(self, written: str, found: str) -> None:
        limits = Limits(50 * CENT, exclude_countries=frozenset({written}))
        assert offer_verdict(offer(country=found), NEED, limits) == "in an excluded country"
        assert offer_verdict(offer(country="DE"), NEED, limits) == ""
        assert offer_verdict(offer(country=None), NEED, limits) == ""

    @pytest.mark.parametrize(
        ("limit", "least", "field", "fits", "too_little", "verdict"),
        [
            ("min_ram_gb", 16, "ram_gb", 16, 15.9, "less than 16 GB of RAM"),
            ("min_threads_per_gpu", 4, "cpu_threads", 8, 7, "fewer than 4 CPU threads per GPU"),
            ("min_rating", 3, "rating", 3, 2.9, "rated below 3"),
            ("min_disk_gb", 20, "disk_gb", 20, 19.9, "less than 20 GB of disk"),
            ("min_net_down_mbps", 50, "net_down_mbps", 50, 49.9, "downloads at less than 50 Mbit/s"),
            ("min_hours", 2, "max_hours", 2, 1, "on offer for less than 2 h"),
            ("min_cuda", (12, 4), "cuda_version", "12.4", "12.3", "CUDA older than 12.4"),
            ("min_cuda", (12, 4), "cuda_version", "12.10", "9.9", "CUDA older than 12.4"),
            ("min_pcie_gb_per_sec", 3, "pcie_width", 4, 1, "PCIe slower than 3 GB/s"),
            ("countries", frozenset({"de"}), "country", "DE", "CZ", "in an excluded country"),
        ],
    )  # fmt: skip
    def test_what_training_needs(  # noqa: PLR0917 - one case, in words
        self, limit: str, least: Any, field: str, fits: Any, too_little: Any, verdict: str
    ) -> None:
        """At the limit is enough, below it is not, and a host that does not say is given the benefit of the doubt."""
        limits = replace(LIMITS, **{limit: least})
        two: dict[str, Any] = {"gpu_count": 2} if limit == "min_threads_per_gpu" else {}
        silent: dict[str, Any] = two | {field: None}
        assert offer_verdict(offer(**{field: fits}, **two), NEED, limits) == ""
        assert offer_verdict(offer(**{field: too_little}, **two), NEED, limits) == verdict
        assert offer_verdict(offer(**silent), NEED, limits) == ""
        assert offer_verdict(offer(provider="ssh", **{field: too_little}), NEED, limits) == "", "a host of our own"

    @pytest.mark.parametrize(
        ("gen", "width", "speed"),
        [(None, 4, 3.94), (3, 16, 15.76), (4, 8, 15.752), (2, 1, 0.5), (9, 1, 7.563), (3, 0, None)],
    )
    def test_pcie_is_generation_by_width(self, gen: int | None, width: int, speed: float | None) -> None:
        assert pcie_gb_per_sec(gen, width) == (None if speed is None else pytest.approx(speed))

    @pytest.mark.parametrize(
        ("image", "cuda", "fits"),
        [
            ("pytorch/pytorch:2.4.0-cuda12.4-cudnn9-devel", "12.4", True),
            ("pytorch/pytorch:2.4.0-cuda12.4-cudnn9-devel", "12.2", False),
            ("nvidia/cuda:12.8.1-devel-ubuntu22.04", "12.4", False),
            ("me/train:cu121", "11.8", False), ("me/train:cu121", "12.1", True), ("me/train:cu121", None, True),
            ("cloreai/jupyter:ubuntu24.04-v2", "11.0", True),
        ],
    )  # fmt: skip
    def test_a_driver_older_than_the_images_cuda_will_not_do(self, image: str, cuda: str | None, fits: bool) -> None:
        verdict = offer_verdict(offer(cuda_version=cuda), replace(NEED, image=image), LIMITS)
        assert (verdict == "") is fits
        assert fits or verdict.startswith("CUDA older than the image's ")

    def test_a_machine_that_ends_before_the_job_may_will_not_do(self) -> None:
        assert offer_verdict(offer(max_hours=24), NEED, LIMITS, 24) == ""
        assert offer_verdict(offer(max_hours=23), NEED, LIMITS, 24) == "on offer for less than the job's 24 h"
        short, long = offer(20 * CENT, "short", max_hours=2), offer(40 * CENT, "long", max_hours=72)
        waits = replace(job(), max_runtime_sec=3 * 3600 + 1)
        (rent,) = plan(world([waits], offers=[short, long])).rents
        assert rent.offer.server_id == "long"
        (rent,) = plan(world([job()], offers=[short, long])).rents
        assert rent.offer.server_id == "short"

    def test_bans_and_pauses_say_more_in_the_market_than_in_a_count(self) -> None:
        limits = replace(
            LIMITS, paused={("clore", "1"): "paused until 14:05: lost", ("clore", "2"): "banned by ann: slow"},
            paused_owners={("clore", "7"): "paused until 15:00: no start", ("clore", "8"): "banned by ann"},
        )  # fmt: skip
        found = {
            "1": ("paused after a failure", "paused until 14:05: lost"),
            "2": ("banned", "banned by ann: slow"),
            "3": ("paused with its owner's other hosts", "owner paused until 15:00: no start"),
            "4": ("its owner is banned", "owner banned by ann"),
        }
        for server, (counted, full) in found.items():
            one = offer(server=server, owner={"3": "7", "4": "8"}.get(server))
            assert (offer_verdict(one, NEED, limits), verdict_in_full(one, NEED, limits)) == (counted, full)
        assert verdict_in_full(offer(90 * CENT), NEED, limits).startswith("over the price")

    @settings(max_examples=300, deadline=None)
    @given(SEEDS, SIZES, st.lists(NEEDS, max_size=6))
    def test_judging_all_is_judging_each(self, seed: int, size: int, needs: list[Need]) -> None:
        random = Random(seed)
        limits = replace(
            LIMITS, min_reliability=random.choice((0.0, 0.8)), paused={("clore", "s1"): "failed"},
            order_types={"clore": random.choice(("auto", "spot", "on-demand"))},
            paused_markets=random.choice(({}, {("clore", "spot"): "x"})), min_hours=random.choice((0, 2)),
        )  # fmt: skip
        offers = [
            replace(found, max_hours=random.choice((None, 1.0, 5.0, 50.0)), cuda_version=random.choice((None, "12.1")))
            for found in market(random, size).offers
        ]
        stock = Stock(offers, limits)
        for need in (replace(need, image=random.choice((need.image, "x:cuda12.4"))) for need in needs):
            hours = random.choice((0.0, 4.0, 40.0))
            judged = stock.judge(ask_of(need, limits, hours))
            each = {found.server_id: offer_verdict(found, need, limits, hours) for found in offers}
            assert {found.server_id for found in judged.offers} == {server for server in each if not each[server]}
            assert judged.verdicts == Counter(verdict for verdict in each.values() if verdict)
            good = [found.rate for found in offers if not each[found.server_id]]
            dear = [found.rate for found in offers if each[found.server_id].startswith("over the price")]
            assert judged.cheapest == min(good, default=None)
            assert judged.cheapest_dear == min(dear, default=None)


class TestBestOffer:
    def test_the_cheaper_of_equals_wins(self) -> None:
        assert best_offer([offer(40 * CENT, "a"), offer(39 * CENT, "b")]).server_id == "b"

    def test_a_cheap_host_that_fails_half_the_time_is_not_cheap(self) -> None:
        assert (
            best_offer([offer(30 * CENT, "a", reliability=0.5), offer(40 * CENT, "b", reliability=0.99)]).server_id
            == "b"
        )

    def test_a_small_difference_in_reliability_does_not_outweigh_a_large_one_in_price(self) -> None:
        assert (
            best_offer([offer(20 * CENT, "a", reliability=0.95), offer(40 * CENT, "b", reliability=1.0)]).server_id
            == "a"
        )

    def test_a_fee_counts(self) -> None:
        assert best_offer([offer(40 * CENT, "a", fee=10 * CENT), offer(45 * CENT, "b")]).server_id == "b"

    def test_a_host_that_says_nothing_is_a_middling_one(self) -> None:
        silent, good, bad = offer(40 * CENT, "a"), offer(40 * CENT, "b", reliability=0.95), offer(
            40 * CENT, "c", reliability=0.85
        )  # fmt: skip
        assert best_offer([silent, bad]).server_id == "a"
        assert best_offer([silent, good]).server_id == "b"

    def test_a_reliability_of_nothing_is_no_division_by_zero(self) -> None:
        assert expected_cost(offer(DOLLAR, reliability=0.0)) == 20 * DOLLAR

    def test_own_hosts_for_nothing_come_first(self) -> None:
        assert best_offer([offer(1, "a", reliability=1.0), offer(0, "own", provider="ssh")]).server_id == "own"

    @given(st.permutations(range(12)))
    def test_ties_are_reproducible(self, order: list[int]) -> None:
        offers = [offer(40 * CENT, server=f"s{number:02}", provider=f"p{number % 3}") for number in range(12)]
        assert best_offer([offers[index] for index in order]).server_id == "s00"
