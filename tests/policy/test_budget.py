"""Budgets: what is spent and committed stays within them (I3 of the invariants), what is said, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.model.budget import DAY_MS, Reserve, Scope, day_start, still_due
from gpuscale_tui.model.money import Terms
from gpuscale_tui.model.offers import Offer
from gpuscale_tui.model.settings import ScalerConfig
from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.policy.budget import explained, left, said_at, steps, stops_everything, used_up
from gpuscale_tui.policy.limits import least_loss
from gpuscale_tui.policy.scaling import plan
from gpuscale_tui.policy.world import Allowance, BudgetView, Plan, World
from tests.policy.simulator import CALM, STORM, TICK_MS, Rented, Simulation, Trouble
from tests.policy.support import CENT, DOLLAR, NEED, NOW, job, jobs, machine, offer, world

RESERVE = Reserve(TICK_MS, 0)
MINUTE = 60_000


def allowance(scope: Scope = Scope.DAY, limit: int = DOLLAR, spent: int = 0, committed: int = 0, name: str = "",
              *, held: bool = False) -> Allowance:  # fmt: skip
    return Allowance(scope, name, limit, spent, committed, day_start(NOW), held)


@dataclass
class Account:
    """What one machine costs: from its order on, whether or not we know of it yet."""

    terms: Terms
    since: int
    cost: int = 0


@dataclass
class Purse(Simulation):
    """A simulation with a bill and a daily limit, kept as the engine's treasurer keeps it."""

    daily: int = 0
    accounts: dict[int, Account] = field(default_factory=dict)
    booked: dict[int, int] = field(default_factory=dict)
    held: bool = False
    begins: int = 0
    most_burn: int = 0

    def world(self) -> World:
        return replace(super().world(), budget=self.view())

    def view(self) -> BudgetView:
        """What the engine would show policy."""
        fleet = {id_: rented for id_, rented in self.fleet.items() if id_ in self.accounts}
        due = sum(self._due(id_, rented) for id_, rented in fleet.items())
        promised = sum(
            max(
                self._due(id_, rented),
                0
                if rented.machine.leaving
                else still_due(
                    self.accounts[id_].terms, self.accounts[id_].since, self.accounts[id_].cost,
                    self.accounts[id_].since + RESERVE.first_ms, now=self.now,
                ),
            )
            for id_, rented in fleet.items()
        )  # fmt: skip
        day = day_start(self.now)
        spent = self.booked.get(day, 0)
        return BudgetView((Allowance(Scope.DAY, "", self.daily, spent, due, day, self.held),), promised)

    def _due(self, id_: int, rented: Rented) -> int:
        until = self.now + (RESERVE.tick_ms if rented.machine.leaving else RESERVE.staying_ms)
        account = self.accounts[id_]
        return still_due(account.terms, account.since, account.cost, until, now=self.now)

    def tick(self) -> Plan:
        self.most_burn = max(self.most_burn, self.burn)
        alive = {id_ for id_, rented in self.fleet.items() if rented.fate != "refused"}
        self._book(alive, self.now + TICK_MS)
        made = super().tick()
        for id_ in self.fleet.keys() - self.accounts.keys():
            found = next(each for each in self.servers if each.server_id == self.fleet[id_].server)
            self.accounts[id_] = Account(found.terms, self.now)
        self._treasure()
        (only,) = self.view().allowances
        slow = self.most_burn * self.trouble.slow  # a provider may be slower to take machines back than it should be
        assert only.used <= only.limit + slow, "spent and committed are beyond the budget and a tick of burn"
        return made

    @property
    def burn(self) -> int:
        """What one tick of everything costs at most, begun minutes and fees counted."""
        return sum(
            account.terms.rate * (TICK_MS + account.terms.unit_ms) // 3_600_000 + 1
            for id_, account in self.accounts.items()
            if id_ in self.fleet
        )

    def _book(self, alive: set[int], now: int) -> None:
        for id_ in alive:
            account = self.accounts[id_]
            total = max(account.cost, account.terms.charge(now - account.since))
            day = day_start(now)
            self.booked[day] = self.booked.get(day, 0) + total - account.cost
            account.cost = total

    def _treasure(self) -> None:
        if self.begins != day_start(self.now):
            self.held, self.begins = False, day_start(self.now)
        out = used_up(self.view())
        if stops_everything(out) is None:
            return
        self.held = True
        for each in least_loss(
            [rented.machine for rented in self.fleet.values() if not rented.machine.leaving], self.now
        ):
            self._give_back(each.id)


def market(random: Random) -> tuple[Offer, ...]:
    """Servers that differ in price, and in when and how they charge."""
    minimum, unit = random.choice((0, MINUTE, 60 * MINUTE)), random.choice((1, 1000, MINUTE))
    fee = random.choice((0, 0, 20 * CENT))
    return tuple(
        Offer(
            "clore", f"s{index}", "RTX 4090", 1,
            Terms((20 + index % 25) * CENT, unit, minimum, fee, random.choice((0, 10 * MINUTE))),
        )
        for index in range(40)
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_spent_and_committed_stay_within_the_budget_in_any_storm(seed: int) -> None:
    """At every instant, over midnight, with lost answers, minimum charges, fees, and providers that are slow."""
    random = Random(seed)
    trouble = replace(STORM, in_all=random.choice((0, 20)), slow=random.choice((1, 1, 1, 4)))
    purse = Purse(
        ScalerConfig(max_workers=random.choice((3, 8, 30)), scale_up_threshold=random.choice((1, 3))),
        20 * DOLLAR, market(random), trouble, seed, daily=random.choice((0, 5, 30, 100, 400)) * CENT,
    )  # fmt: skip
    purse.now = day_start(NOW) + DAY_MS - random.randint(0, 100) * TICK_MS
    purse.submit(random.randint(1, 20), ticks=random.randint(1, 120))
    for _ in range(160):
        purse.tick()
    if trouble.slow == 1:
        assert all(spent <= purse.daily for spent in purse.booked.values()), "not a micro-dollar over it"
    purse.daily, purse.held = 10_000 * DOLLAR, False
    purse.run(60_000)
    assert len(purse.done) == len(purse.ticks_of), "raised, everything goes on"


@pytest.mark.parametrize("trouble", [CALM, Trouble(slow=1)], ids=["calm", "slow"])
def test_the_budget_is_used_and_not_only_kept(trouble: Trouble) -> None:
    purse = Purse(ScalerConfig(max_workers=10), 20 * DOLLAR, tuple(
        Offer("clore", f"s{index}", "RTX 4090", 1, Terms(40 * CENT)) for index in range(20)
    ), trouble, daily=3 * DOLLAR)  # fmt: skip
    purse.submit(30, ticks=10_000)
    for _ in range(200):
        purse.tick()
    assert not purse.fleet
    assert 28 * DOLLAR // 10 < sum(purse.booked.values()) <= 3 * DOLLAR


class TestRenting:
    """What the plan does with what is left."""

    def test_waits_with_the_figure_that_would_change_it(self) -> None:
        view = BudgetView((allowance(limit=DOLLAR, spent=95 * CENT),), promised=0)
        made = plan(world(jobs(3), budget=view))
        assert made.rents == ()
        assert made.groups[NEED.key].code == "budget"
        text = made.groups[NEED.key].text
        assert "the daily budget of $1.00 leaves too little for a machine's first 15 min ($0.95 spent" in text
        assert "[budget] daily $1.05 would rent the next one" in text
        enough = BudgetView((allowance(limit=105 * CENT, spent=95 * CENT),))
        assert len(plan(world(jobs(3), budget=enough)).rents) == 1

    def test_a_cheaper_one_that_fits_is_taken(self) -> None:
        view = BudgetView((allowance(limit=10 * CENT),))
        offers = [offer(39 * CENT, "long", max_hours=None), offer(41 * CENT, "b")]
        assert [rent.offer.server_id for rent in plan(world(jobs(3), offers=offers, budget=view)).rents] == ["long"]

    def test_used_up_rents_nothing_but_what_costs_nothing(self) -> None:
        view = BudgetView((allowance(held=True),))
        assert plan(world(jobs(3), budget=view)).groups[NEED.key].code == "budget"
        free = [offer(0, "mine")]
        assert [rent.offer.rate for rent in plan(world(jobs(3), offers=free, budget=view)).rents] == [0]

    def test_limits_of_projects_leave_renting_alone(self) -> None:
        view = BudgetView((allowance(Scope.PROJECT, 0, held=True, name="p"), allowance(Scope.JOB, 0, 9, name="1")))
        assert left(view) is None
        assert len(plan(world(jobs(3), budget=view)).rents) == 1

    def test_the_cap_is_still_told_where_it_is_what_is_wrong(self) -> None:
        view = BudgetView((allowance(limit=100 * DOLLAR),))
        fleet = [machine(1, WorkerState.BUSY)]
        made = plan(world([job(1), job(2), job(3)], fleet, cap=50 * CENT, budget=view))
        assert made.groups[NEED.key].code == "cap"


class TestWords:
    """What is said of limits."""

    @pytest.mark.parametrize(
        ("used", "said"), [(49, None), (50, 50), (79, 50), (80, 80), (99, 80), (100, 100), (300, 100)]
    )
    def test_steps(self, used: int, said: int | None) -> None:
        found = list(steps(BudgetView((allowance(limit=100, spent=used - 10, committed=10),))))
        assert [step for _, step in found] == ([] if said is None else [said])

    @pytest.mark.parametrize(
        ("scope", "name", "title", "until"),
        [
            (Scope.DAY, "", "the daily budget of $1.00", "it goes on at 2027-01-16 00:00 UTC, or with $1.02"),
            (Scope.MONTH, "", "the monthly budget of $1.00", "it goes on at 2027-02-01 00:00 UTC, or with $1.02"),
            (Scope.PROJECT, "p", "the budget of project p of $1.00 a month", "at 2027-02-01 00:00 UTC, or with"),
            (Scope.USER, "ada", "the budget of user ada of $1.00 a month", "or more in [budget.users]"),
            (Scope.JOB, "7", "the budget of j7 of $1.00", "it goes on with $1.02 or more in [budget] per_job"),
        ],
    )
    def test_each_limit_says_what_would_lift_it(self, scope: Scope, name: str, title: str, until: str) -> None:
        text = explained(allowance(scope, DOLLAR, 98 * CENT, 3 * CENT, name))
        assert text.startswith(f"{title} is used up ($0.98 spent, $0.03 committed): ")
        assert until in text

    def test_the_cap_is_about_an_hour(self) -> None:
        assert said_at(allowance(Scope.HOUR, DOLLAR, 0, 80 * CENT), 80) == (
            "80 % of the cap of $1.00/h are committed: $0.80/h"
        )


def test_only_what_is_exceeded_or_was_holds_back() -> None:
    found = used_up(BudgetView((
        allowance(limit=10, spent=10), allowance(Scope.MONTH, 10, 5, 6), allowance(Scope.HOUR, 1, 0, 5),
        allowance(Scope.JOB, 10, 1, name="1", held=True),
    )))  # fmt: skip
    assert [each.allowance.scope for each in found] == [Scope.MONTH, Scope.JOB]
    everything = stops_everything(found)
    assert everything is not None
    assert everything.allowance.scope == Scope.MONTH
    assert stops_everything(found[1:]) is None
