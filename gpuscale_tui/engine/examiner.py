"""Testing machines before work: what one shows against what it was offered as. One that fails goes back."""

from __future__ import annotations

from gpuscale_tui.engine.context import Context
from gpuscale_tui.model.hosts import Examination, OutcomeKind
from gpuscale_tui.model.jobs import worker_label
from gpuscale_tui.model.settings import MachinesConfig
from gpuscale_tui.model.states import Cause
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.policy.trust import Opinion, TestLimits, judge
from gpuscale_tui.remote.site import Site
from gpuscale_tui.store import hosts, workers


async def examine(context: Context, worker: Worker, site: Site) -> Examination | None:
    """What a test finds on a machine; None where none is made. Raises RemoteError when the machine cannot be asked."""
    if not context.settings.machines.test:
        return None
    await context.db.note(workers.explain, [(worker.id, "boots; SSH answers, it is being tested")])
    return await site.examine(context.base, context.now)


async def is_trusted(context: Context, worker: Worker, found: Examination | None) -> bool:
    """Whether a machine may be given work; one that may not is given back, and that is booked and told.

    A host of our own is what it is: what is odd about it is only told, unless it lacks GPUs that jobs will ask for.
    """
    if found is None:
        return True
    promise = await context.db.read(hosts.promise, worker)
    opinion = judge(found, promise, limits_of(context.settings.machines))
    provider = context.providers.get(worker.provider)
    ours = provider is not None and not provider.facts.boots
    if opinion.faults and (opinion.impossible or not ours):
        await _give_back(context, worker, opinion, found)
        return False
    remarks = (*opinion.faults, *opinion.warnings)
    if remarks:
        await context.warn(f"{worker_label(worker.id)}: {'; '.join(remarks)}", worker_id=worker.id)
    return True


def limits_of(settings: MachinesConfig) -> TestLimits:
    """What the settings demand."""
    return TestLimits(settings.min_free_disk_gb, settings.min_download_mbps, settings.max_clock_skew_sec)


async def _give_back(context: Context, worker: Worker, opinion: Opinion, found: Examination) -> None:
    reason = f"failed its test: {'; '.join(opinion.faults)}"
    begun = await context.db.write(
        workers.begin_release, worker.id, reason, cause=Cause.HOST_FAULT, outcome=OutcomeKind.FAILED_TEST,
        examined=found, now=context.now(), epoch=context.epoch,
    )  # fmt: skip
    if begun:
        await context.warn(f"{worker_label(worker.id)} {reason}; it goes back", worker_id=worker.id)
    context.bells.ring("releaser", "planner")
