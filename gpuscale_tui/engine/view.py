"""The view: what the store and the market say, as policy wants to see it."""

from __future__ import annotations

from collections.abc import Iterable

from gpuscale_tui.engine.standing import Standing
from gpuscale_tui.model.budget import Budget, budget_of
from gpuscale_tui.model.cuda import parse_cuda
from gpuscale_tui.model.gpus import canonical_gpu
from gpuscale_tui.model.jobs import Attempt
from gpuscale_tui.model.money import parse_usd
from gpuscale_tui.model.offers import Need
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.policy.world import Limits, Machine, PendingJob
from gpuscale_tui.store.demand import Waiting
from gpuscale_tui.store.snapshots import Work


def gpu_of(name: str) -> str | None:
    """The canonical GPU that a user's word means; None for `none`."""
    return None if name.strip().casefold() in {"", "none"} else canonical_gpu(name.strip())


def default_need(settings: Settings) -> Need:
    """What a job that names nothing needs: for `scale up` and min_workers."""
    gpu = gpu_of(settings.scaler.gpu_type)
    return Need(settings.scaler.docker_image, gpu, 0 if gpu is None else 1, None)


def cap(settings: Settings) -> int:
    """The hourly cap in micro-dollars."""
    return parse_usd(settings.scaler.max_hourly_budget)


def budget(settings: Settings) -> Budget:
    """The limits on sums, and how long what is rented goes on costing once it is given back."""
    return budget_of(settings)


def limits(settings: Settings, standing: Standing | None = None, own: frozenset[str] = frozenset({"ssh"})) -> Limits:
    """The limits of the settings, with what is paused; hosts of the providers in `own` are ours."""
    clore, machines, now = settings.providers.clore, settings.machines, standing or Standing()
    return Limits(
        default_price=parse_usd(settings.scaler.max_price_per_gpu),
        min_reliability=clore.min_reliability,
        exclude_countries=frozenset(clore.exclude_countries),
        paused=now.paused,
        countries=frozenset(clore.countries),
        min_rating=clore.min_rating,
        min_ram_gb=clore.min_ram_gb,
        min_threads_per_gpu=clore.min_threads_per_gpu,
        min_disk_gb=clore.min_disk_gb,
        min_pcie_gb_per_sec=clore.min_pcie_gb_per_sec,
        min_net_down_mbps=clore.min_net_down_mbps,
        min_cuda=parse_cuda(clore.min_cuda),
        min_hours=clore.min_rental_hours,
        order_types={"clore": clore.order_type},
        own=own,
        paused_owners=now.paused_owners,
        paused_images=now.paused_images,
        paused_markets=now.paused_markets,
        max_setup=parse_usd(machines.max_setup_usd),
    )


def machines(
    workers: Iterable[Worker], attempts: Iterable[Attempt] = (), at_stake: Iterable[Work] = ()
) -> tuple[Machine, ...]:
    """Workers as policy sees them; one whose price counts against the cap is always among them.

    `attempts` are those that have not ended: they say since when a worker is busy. `at_stake` says what is lost by
    giving it back.
    """
    busy_since = {attempt.worker_id: attempt.assigned_at for attempt in attempts}
    work = {each.worker_id: each for each in at_stake}
    return tuple(
        Machine(
            id=worker.id,
            state=worker.state,
            provider=worker.provider,
            gpu_type=worker.gpu_type,
            gpu_count=worker.gpu_count,
            image=worker.image,
            market=worker.market,
            rate=worker.rate,
            group_key=worker.group_key,
            idle_since=worker.idle_since,
            busy_since=busy_since.get(worker.id),
            taking_work=worker.silent_since is None,
            purpose=worker.purpose,
            unsaved_since=work[worker.id].saved_at if worker.id in work else None,
            priority=work[worker.id].priority if worker.id in work else 0,
        )
        for worker in workers
    )


def pending(jobs: Iterable[Waiting]) -> tuple[PendingJob, ...]:
    """Waiting jobs as policy sees them."""
    return tuple(
        PendingJob(job.id, job.need, job.priority, job.submitted_at, job.not_before, job.max_runtime_sec)
        for job in jobs
    )


def in_transition(workers: Iterable[Worker]) -> bool:
    """Whether something changes soon by itself: then the next look comes sooner."""
    moving = {WorkerState.ORDERING, WorkerState.BOOTING, WorkerState.RELEASING}
    return any(worker.state in moving for worker in workers)
