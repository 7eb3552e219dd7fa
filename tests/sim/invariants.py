"""What must hold whatever happens (shared/reference/reliability.md, 3.3), checked against the world's own truth.

The judge reads two things only: what the marketplaces and machines know to be true, and the database. A violation ends
the run where it happens.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpuscale_tui.providers.base import RentRequest
from gpuscale_tui.remote.launch import Launch
from tests.sim.machines import printed

if TYPE_CHECKING:
    from tests.sim.machines import Process
    from tests.sim.market import Bazaar, Order
    from tests.sim.world import Universe

CALLS_PER_SEC = 2.0
WINDOW_SEC = 60.0
LIVE = "SELECT token, rate FROM workers WHERE state NOT IN ('released', 'lost')"


@dataclass(slots=True)
class Checker:
    """Looks after the invariants of one universe."""

    universe: Universe
    violations: list[str] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    """Cap under which each create was asked for, by its token."""
    saved: dict[int, int] = field(default_factory=dict)
    checks: Counter[str] = field(default_factory=Counter)
    _connection: sqlite3.Connection | None = None
    _living: tuple[Order, ...] | None = None

    def fail(self, invariant: str, text: str) -> None:
        """Note a violation and end the run."""
        self.violations.append(f"{invariant} at {self.universe.loop.time():.3f} s: {text}")
        self.universe.note("violation", invariant, text)
        self.universe.loop.kill()

    # Reading the database.

    def open(self) -> None:
        self.close()
        self._connection = sqlite3.connect(
            f"file:{self.universe.home.database}?mode=ro", uri=True, isolation_level=None
        )
        self._connection.row_factory = sqlite3.Row

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        assert self._connection is not None
        return self._connection.execute(sql, values).fetchall()

    # Moments.

    def create_asked(self, bazaar: Bazaar, request: RentRequest) -> None:
        """I1: an intent is on the disk before the request leaves; a create is never repeated."""
        self.checks["create"] += 1
        if request.token in self.asked:
            self.fail("I1", f"create repeated for {request.token}")
        self.asked[request.token] = self.universe.cap
        found = self.rows("SELECT state FROM workers WHERE token = ? AND provider = ?", request.token, bazaar.name)
        if not found or found[0]["state"] not in {"ordering", "releasing"}:
            self.fail("I1", f"{bazaar.name} is asked for {request.token} without an intent: {[*map(tuple, found)]}")

    def created(self, bazaar: Bazaar, order: Order) -> None:
        """I2: what costs money now is within the cap under which this was asked for."""
        self.order_changed()
        cap = max(self.universe.cap, self.asked.get(order.token, 0))
        rate = self.universe.burn()
        if rate > cap:
            self.fail("I2", f"{order.id} makes it {rate} an hour, the cap is {cap}")
        if order.terms.rate > order.max_rate:
            self.fail("I2", f"{order.id} costs {order.terms.rate}, at most {order.max_rate} was asked for")

    def release_asked(self, bazaar: Bazaar, order_id: str) -> None:
        """I6: what is not ours is never touched."""
        self.checks["release"] += 1
        order = bazaar.orders.get(order_id)
        if order is not None and not order.ours:
            self.fail("I6", f"{order_id} of {bazaar.name} is not ours and was to be given back")

    def order_changed(self) -> None:
        self._living = None

    def committed(self) -> None:
        """I1 and I2: everything that costs money is a live worker in the store, at no lower price."""
        self.checks["commit"] += 1
        if self._living is None:
            self._living = tuple(order for bazaar in self.universe.bazaars for order in bazaar.living())
        if not self._living:
            return
        known = {
            row[0]: row[1]
            for row in self.rows("SELECT token, rate FROM workers WHERE state NOT IN ('released', 'lost')")
        }
        for order in self._living:
            rate = known.get(order.token)
            if order.token in self.universe.forgivable:
                continue
            if rate is None:
                self.fail("I1", f"order {order.id} ({order.market}) costs money and no live worker has it")
            elif rate < order.terms.rate:
                self.fail("I2", f"order {order.id} costs {order.terms.rate} and counts as {rate}")

    def started(self, process: Process, launch: Launch) -> None:
        """I5: no job runs twice at once. I9: it goes on from the newest snapshot."""
        self.checks["start"] += 1
        job = process.name.split("-")[0]
        for machine in self.universe.machines.values():
            for other in machine.live_processes():
                if other is not process and other.name.split("-")[0] == job:
                    self.fail("I5", f"{process.name} starts on {process.machine.label} while {other.name} runs on"
                                    f" {machine.label}")  # fmt: skip
        job_id = int(job[1:])
        newest = self.rows("SELECT max(number) FROM snapshots WHERE job_id = ?", job_id)[0][0]
        step = 0 if newest is None else self.universe.snapshot_step(job_id, newest)
        if step is not None and process.base_step < step:
            self.fail("I9", f"{process.name} begins at step {process.base_step}, snapshot {newest} has step {step}")
        if process.base_step < self.saved.get(job_id, 0):
            self.fail(
                "I9", f"{process.name} begins at step {process.base_step}, an earlier one at {self.saved[job_id]}"
            )
        self.saved[job_id] = process.base_step

    def paced(self, seconds: float = WINDOW_SEC) -> None:
        """I10: no marketplace is called more than twice a second over any minute."""
        for bazaar in self.universe.bazaars:
            times = bazaar.call_times
            first = 0
            for last, at in enumerate(times):
                while times[first] < at - seconds:
                    first += 1
                if last - first + 1 > CALLS_PER_SEC * seconds:
                    self.fail("I10", f"{last - first + 1} calls of {bazaar.name} within {seconds:g} s up to {at:.0f} s")
                    return

    # The end.

    def jobs_kept(self) -> None:
        """I4: every job that was submitted is there once, in one state; I5: done once for each time it was asked."""
        found = {row["id"]: row for row in self.rows("SELECT * FROM jobs")}
        submitted = self.universe.user.submitted
        if sorted(found) != sorted(submitted):
            self.fail("I4", f"{len(submitted)} jobs submitted, {len(found)} in the store")
        for job_id, times in self._times_done().items():
            if times > 1 + self.universe.user.retried[job_id]:
                self.fail("I5", f"j{job_id} became done {times} times")

    def _times_done(self) -> dict[int, int]:
        found = self.rows("SELECT job_id, count(*) FROM events WHERE kind = 'job' AND to_state = 'done' GROUP BY 1")
        return {row[0]: row[1] for row in found}

    def jobs_over(self) -> None:
        """I4 and I5 once the world is quiet: done means that all of it was done; failed only where it had to."""
        for row in self.rows("SELECT * FROM jobs ORDER BY id"):
            plan = self.universe.user.submitted[row["id"]]
            if row["state"] in {"pending", "running"}:
                self.fail("I10", f"j{row['id']} is still {row['state']}: {row['error']}")
            elif row["state"] == "done":
                self._really_done(row, plan.work.steps, plan.work.code)
            elif row["state"] == "failed" and not plan.may_fail:
                self.fail("I4", f"j{row['id']} failed: {row['cause']} {row['error']}")

    def _really_done(self, row: sqlite3.Row, steps: int, code: int) -> None:
        if code != 0:
            self.fail("I5", f"j{row['id']} is done, its command ends with {code}")
        name = f"j{row['id']}-{row['attempt']}"
        output = self.universe.output(row["id"], row["attempt"])
        lines = output.decode().splitlines()
        reached = int(lines[-1].rsplit(" ", 1)[1]) if lines else -1
        if reached != steps:
            self.fail("I9", f"{name} is done, its stored output ends with {lines[-1:]} of {steps} steps")
        base = int(lines[0].rsplit(" ", 1)[1])
        whole = [f"{name} begins at {base}", *(printed(name, step) for step in range(base + 1, steps + 1))]
        if lines != whole:
            self.fail("I9", f"the stored output of {name} has {len(lines)} lines, not {len(whole)}")

    def money_right(self) -> None:
        """I8: what is booked for each order is what its provider charged, to the micro-dollar."""
        booked = {
            row["token"]: row
            for row in self.rows(
                "SELECT w.*, (SELECT coalesce(sum(amount), 0) FROM ledger l WHERE l.worker_id = w.id) AS total,"
                " (SELECT coalesce(sum(cost), 0) FROM spans s WHERE s.worker_id = w.id) AS split FROM workers w"
            )
        }
        for bazaar in self.universe.bazaars:
            for order in bazaar.ours():
                row, bill = booked.get(order.token), order.bill(self.universe.now())
                if row is None:
                    self.fail("I1", f"order {order.id} was never known")
                elif not row["total"] == row["split"] == row["cost"] == bill:
                    self.fail("I8", f"order {order.id} (w{row['id']}) cost {bill}; ledger {row['total']}, spans"
                                    f" {row['split']}, worker {row['cost']}, billed {row['billed']}")  # fmt: skip

    def fleet_right(self) -> None:
        """I1 and I10: nothing is left that costs money beyond what the settings keep."""
        living = [order for bazaar in self.universe.bazaars for order in bazaar.living()]
        live = self.rows("SELECT id, state, why FROM workers WHERE state NOT IN ('released', 'lost')")
        wanted = self.universe.settings.scaler.min_workers
        if len(living) > wanted or len(live) > wanted:
            names = ", ".join(order.id for order in living)
            self.fail("I10", f"still rented: {names}; {[tuple(row) for row in live][:5]}; wanted {wanted}")

    def sound(self) -> None:
        """The file itself."""
        result = self.rows("PRAGMA integrity_check")[0][0]
        if result != "ok":
            self.fail("I4", f"integrity check: {result}")
