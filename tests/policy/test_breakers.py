"""Breakers: open after failures in a row, longer each time, half open after that, closed by a success."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.model.hosts import Outcome, OutcomeKind
from gpuscale_tui.policy.breakers import (
    DAY_MS,
    MEMORY_MS,
    MINUTE_MS,
    Blow,
    Position,
    Rule,
    host_breakers,
    image_breakers,
    job_hold_ms,
    judge,
    owner_breakers,
    spot_pauses,
)
from tests.policy.support import NOW

RULE = Rule(failures=3, first_ms=10 * MINUTE_MS)
HOST = Rule(failures=1, first_ms=30 * MINUTE_MS)
BLOWS = st.lists(st.tuples(st.integers(0, 2 * MEMORY_MS), st.booleans(), st.sampled_from(["", "a", "b", "c"])))


def bad(minutes_ago: float, target: str = "") -> Blow:
    return Blow(NOW - round(minutes_ago * MINUTE_MS), good=False, why="broken", target=target)


def good(minutes_ago: float) -> Blow:
    return Blow(NOW - round(minutes_ago * MINUTE_MS), good=True)


def outcome(kind: str, server: str = "1", *, minutes_ago: float = 1, **more: str | None) -> Outcome:
    fields = {"owner": "7", "image": "img", "market": "on-demand", "detail": f"{kind} on {server}"} | more
    return Outcome(NOW - round(minutes_ago * MINUTE_MS), OutcomeKind(kind), "clore", server, **fields)  # type: ignore[arg-type]


class TestOne:
    def test_opens_at_the_last_of_enough_failures_and_says_what_it_was(self) -> None:
        assert judge([bad(3), bad(2)], RULE, NOW).position == Position.CLOSED
        found = judge([bad(3), bad(2), bad(1)], RULE, NOW)
        assert (found.position, found.streak, found.until) == (Position.OPEN, 3, NOW + 9 * MINUTE_MS)
        assert "broken" in (found.pause() or "")

    def test_the_pause_doubles_and_has_an_end(self) -> None:
        pauses = [RULE.pause_ms(streak) for streak in range(12)]
        assert pauses[:6] == [0, 0, 0, 10 * MINUTE_MS, 20 * MINUTE_MS, 40 * MINUTE_MS]
        assert max(pauses) == RULE.pause_ms(10_000) == DAY_MS

    def test_half_open_lets_one_trial_through(self) -> None:
        found = judge([bad(13), bad(12), bad(11)], RULE, NOW)
        assert found.position == Position.HALF_OPEN
        assert found.pause() is None
        assert "tried again first" in (found.pause(trying=True) or "")

    def test_a_success_closes_a_failure_of_the_trial_opens_for_twice_as_long(self) -> None:
        before = [bad(33), bad(32), bad(31)]
        assert judge([*before, good(1)], RULE, NOW).position == Position.CLOSED
        assert judge([*before, bad(1)], RULE, NOW).until == NOW + 19 * MINUTE_MS

    def test_the_same_target_again_proves_nothing_of_the_others(self) -> None:
        assert judge([bad(3, "a"), bad(2, "a"), bad(1, "a")], RULE, NOW).position == Position.CLOSED
        assert judge([bad(3, "a"), bad(2, "b"), bad(1, "c")], RULE, NOW).position == Position.OPEN

    def test_a_pause_of_nothing_is_no_breaker(self) -> None:
        assert judge([bad(1)] * 9, Rule(1, 0), NOW).position == Position.CLOSED

    @given(BLOWS, st.integers(1, 5))
    def test_always(self, drawn: list[tuple[int, bool, str]], failures: int) -> None:
        """Closed without a fresh failure, and after each success; never open for longer than the longest pause."""
        rule = Rule(failures, MINUTE_MS)
        blows = [Blow(NOW - ago, is_good, "why", target) for ago, is_good, target in sorted(drawn, reverse=True)]
        found = judge(blows, rule, NOW)
        fresh = [blow for blow in blows if NOW - blow.at <= MEMORY_MS]
        assert found.streak <= sum(not blow.good for blow in fresh)
        if not fresh or fresh[-1].good:
            assert found.position == Position.CLOSED
        if found.position == Position.OPEN:
            assert NOW < found.until <= NOW + rule.longest_ms
            assert judge(blows, rule, found.until).position in {Position.HALF_OPEN, Position.CLOSED}
        assert judge([*blows, Blow(NOW, good=True)], rule, NOW).position == Position.CLOSED


class TestWhatCounts:
    def test_one_failure_pauses_a_host_whatever_it_was(self) -> None:
        for kind in ("refused", "no_start", "failed_test", "lost", "evicted", "job_fault"):
            found = host_breakers([outcome(kind)], lambda _: HOST, NOW)
            assert found[("clore", "1")].position == Position.OPEN, kind
            assert found[("clore", "1")].until == NOW + 29 * MINUTE_MS

    def test_coming_up_alone_does_not_clear_a_host(self) -> None:
        lost_twice = [
            outcome("lost", minutes_ago=80), outcome("ready", minutes_ago=40), outcome("lost", minutes_ago=1),
        ]  # fmt: skip
        assert host_breakers(lost_twice, lambda _: HOST, NOW)[("clore", "1")].streak == 2
        cleared = [outcome("lost", minutes_ago=80), outcome("returned", minutes_ago=1)]
        assert host_breakers(cleared, lambda _: HOST, NOW) == {}

    def test_lost_races_pause_a_host_but_never_for_longer(self) -> None:
        lost = [outcome("refused", minutes_ago=ago) for ago in (300, 200, 100, 1)]
        found = host_breakers(lost, lambda _: HOST, NOW)[("clore", "1")]
        assert (found.streak, found.until) == (1, NOW + 29 * MINUTE_MS)

    def test_an_owner_pauses_when_several_of_the_hosts_fail(self) -> None:
        same = [outcome("no_start", "1", minutes_ago=ago) for ago in (9, 8, 7)]
        assert owner_breakers(same, RULE, NOW) == {}
        several = [outcome("failed_test", server, minutes_ago=9 - index) for index, server in enumerate("123")]
        assert set(owner_breakers(several, RULE, NOW)) == {("clore", "7")}
        assert owner_breakers([*several, outcome("returned", "4", minutes_ago=1)], RULE, NOW) == {}
        nobodys = [outcome("lost", server, owner=None) for server in "123"]
        assert owner_breakers(nobodys, RULE, NOW) == {}

    def test_an_image_pauses_when_it_comes_up_nowhere(self) -> None:
        never = [outcome("no_start", server, minutes_ago=9 - index) for index, server in enumerate("123")]
        found = image_breakers(never, RULE, NOW)
        assert set(found) == {"img"}
        came_up = [*never, outcome("failed_test", "4", minutes_ago=1)]
        assert image_breakers(came_up, RULE, NOW) == {}, "a machine with the wrong GPU has come up all the same"
        assert image_breakers([outcome("lost", server) for server in "123"], RULE, NOW) == {}

    def test_spot_is_left_for_an_hour_after_a_burst_of_evictions(self) -> None:
        def taken(*minutes: float, market: str = "spot") -> list[Outcome]:
            return [outcome("evicted", str(ago), minutes_ago=ago, market=market) for ago in minutes]

        assert spot_pauses(taken(50, 30), 3, NOW) == {}
        assert set(spot_pauses(taken(50, 30, 10), 3, NOW)) == {("clore", "spot")}
        assert spot_pauses(taken(200, 120, 10), 3, NOW) == {}, "over a longer time"
        assert spot_pauses(taken(115, 90, 61), 3, NOW) == {}, "an hour ago"
        assert spot_pauses(taken(50, 30, 10, market="on-demand"), 3, NOW) == {}

    def test_a_job_pauses_after_different_machines_in_a_row(self) -> None:
        one, two, three = (("clore", name) for name in "abc")
        assert job_hold_ms([(one, True), (two, True), (three, True)], RULE) == (3, 10 * MINUTE_MS)
        assert job_hold_ms([(one, True), (one, True), (one, True)], RULE) == (1, 0)
        assert job_hold_ms([(one, True), (two, True), (three, False), (three, True)], RULE) == (1, 0)
        assert job_hold_ms([], RULE) == (0, 0)
