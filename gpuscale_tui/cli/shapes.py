"""What verbs print as JSON. The keys named in DESIGN section 11 are stable: more may be added, these never change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuscale_tui.cli.formatting import iso, usd
from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.policy.liveness import liveness

if TYPE_CHECKING:
    from gpuscale_tui.engine.standing import HostRow
    from gpuscale_tui.model.jobs import Attempt, JobSpec
    from gpuscale_tui.store.events import Event
    from gpuscale_tui.store.market import OfferRow
    from gpuscale_tui.store.output_files import OutputRow
    from gpuscale_tui.store.views import Costs, JobRow, Status, WorkerRow

Json = dict[str, Any]


def job(row: JobRow) -> Json:
    """One job."""
    return {
        "id": row.label,
        "name": row.name,
        "status": row.state,
        "attempt": row.attempt,
        "priority": row.priority,
        "gpu_type": row.gpu_type,
        "gpu_count": 0 if row.gpu_type is None else row.gpu_count,
        "max_price": usd(row.max_price),
        "worker_id": worker_label(row.worker_id) if row.worker_id is not None else None,
        "order_id": row.order_id,
        "cost_usd": usd(row.cost),
        "submitted_at": iso(row.submitted_at),
        "started_at": iso(row.started_at),
        "finished_at": iso(row.finished_at),
        "exit_code": row.exit_code,
        "error": row.error,
        "why": row.why,
        "cause": row.cause,
        "cancelling": row.cancelling,
        "project": row.project,
        "user": row.user,
        "provider": row.provider,
        "price_per_hour": usd(row.rate),
        "rehearsal_state": row.rehearsal or None,
        "resume_verified": row.rehearsal == "verified",
    }


def spec(spec: JobSpec) -> Json:
    """What a job's user asked for, without the values of secrets."""
    return {
        "command": spec.command,
        "argv": list(spec.argv) or None,
        "image": spec.image,
        "max_runtime_sec": spec.max_runtime_sec,
        "env": dict(spec.env),
        "secret_names": sorted(spec.secret_env),
        "params": dict(spec.params),
        "workdir": spec.workdir,
        "checkpoint_dir": spec.checkpoint_dir,
        "market": spec.market,
        "retries": spec.retries,
        "from": spec.start_from.label if spec.start_from else None,
        "git": spec.git.label if spec.git else None,
        "data": dict(spec.data),
        "stop_signal": spec.stop_signal,
        "grace_sec": spec.grace_sec,
        "rehearse": spec.rehearse,
    }


def attempt(row: Attempt) -> Json:
    """One execution of a job."""
    return {
        "attempt": row.number,
        "worker_id": worker_label(row.worker_id),
        "state": row.state,
        "assigned_at": iso(row.assigned_at),
        "started_at": iso(row.started_at),
        "ended_at": iso(row.ended_at),
        "cause": row.cause,
        "exit_code": row.exit_code,
        "output_bytes": row.output_bytes,
        "resumed_from": row.resumed_from,
        "stalled_at": iso(row.stalled_at),
        "resumed_step": row.resumed_step,
        "first_step": row.first_step,
        "lost": None
        if row.lost is None
        else {
            "seconds": row.lost.ms / 1000,
            "cost_usd": usd(row.lost.cost),
            "steps": row.lost.steps,
        },
    }


def output(row: OutputRow) -> Json:
    """What was fetched of a job's OUTPUT_DIR when an attempt ended."""
    return {
        "attempt": row.attempt, "at": iso(row.at), "files": row.files, "bytes": row.bytes, "error": row.error,
    }  # fmt: skip


def event(row: Event) -> Json:
    """One line of the audit log."""
    return {
        "at": iso(row.at),
        "kind": row.kind,
        "job_id": job_label(row.job_id) if row.job_id is not None else None,
        "attempt": row.attempt,
        "worker_id": worker_label(row.worker_id) if row.worker_id is not None else None,
        "from": row.from_state,
        "to": row.to_state,
        "cause": row.cause,
        "detail": row.detail,
    }


def worker(row: WorkerRow) -> Json:
    """One worker."""
    return {
        "id": row.label,
        "provider": row.provider,
        "state": row.state,
        "order_id": row.order_id,
        "server_id": row.server_id,
        "gpu_type": row.gpu_type,
        "gpu_count": row.gpu_count,
        "price_per_hour": usd(row.rate),
        "job_id": job_label(row.job_id) if row.job_id is not None else None,
        "ssh_host": row.ssh_host,
        "ssh_port": row.ssh_port,
        "cost_usd": usd(row.cost),
        "created_at": iso(row.created_at),
        "why": row.why,
        "market": row.market,
        "billed": row.billed,
        "idle_since": iso(row.idle_since),
        "ended_at": iso(row.ended_at),
        "reason": row.reason,
        "liveness": liveness(row.state, ready_at=row.ready_at, silent_since=row.silent_since),
        "contact_at": iso(row.contact_at),
        "expires_at": iso(row.expires_at),
    }


def status(now: Status, cap: int | None) -> Json:
    """Engine, counts and money. `cap` None means that the settings cannot be read."""
    engine, spend = now.engine, now.spend
    return {
        "engine": {
            "running": engine.running,
            "pid": engine.pid,
            "mode": engine.mode,
            "epoch": engine.epoch,
            "heartbeat_at": iso(engine.heartbeat_at),
            "note": engine.note,
        },
        "jobs": now.jobs,
        "workers": now.workers,
        "spend": {
            "used": usd(spend.used),
            "reserved": usd(spend.reserved),
            "cap": usd(cap),
            "today": usd(spend.today),
            "month": usd(spend.month),
        },
        "wallets": [
            {
                "provider": one.provider,
                "wallet": one.name,
                "left_usd": usd(one.left),
                "hours_left": None if one.hours is None else round(one.hours, 2),
                "low": one.low_since is not None,
                "read_at": iso(one.at),
            }
            for one in now.wallets
        ],
        "notices": {
            "failing": [
                {"address": one.label, "since": iso(one.failing_since), "tries": one.failures, "error": one.error}
                for one in now.deaf
            ]
        },
    }


def costs(books: Costs) -> Json:
    """The books."""
    return {
        "total": usd(books.total),
        "productive": usd(books.productive),
        "setup": usd(books.setup),
        "idle": usd(books.idle),
        "rejected": usd(books.rejected),
        "lost": usd(books.lost),
        "rows": [{"key": row.key, "jobs": row.jobs, "cost_usd": usd(row.cost)} for row in books.rows],
        "difference": {"cost_usd": usd(books.difference), "machines": books.differing},
    }


def offer(row: OfferRow) -> Json:
    """One offer as last read."""
    return {
        "provider": row.provider,
        "server_id": row.server_id,
        "market": row.market,
        "gpu_type": row.gpu_type,
        "gpu_count": row.gpu_count,
        "price_per_hour": usd(row.rate),
        "price_per_gpu": usd(-(-row.rate // max(1, row.gpu_count))),
        "reliability": row.reliability,
        "country": row.country,
        "verdict": row.verdict,
        "rank": row.rank,
        "expected_per_hour": None if row.expected is None else usd(row.expected),
        "reason": row.reason,
        "read_at": iso(row.read_at),
    }


def host(row: HostRow) -> Json:
    """One host with its history; times in seconds."""
    known = row.history
    return {
        "provider": known.provider,
        "server_id": known.server_id,
        "owner": known.owner,
        "rentals": known.rentals,
        "ready_sec": None if known.mean_setup_ms is None else known.mean_setup_ms / 1000,
        "held_sec": known.held_ms / 1000,
        "lost_sec": known.lost_ms / 1000,
        "refusals": known.refusals,
        "no_starts": known.no_starts,
        "failed_tests": known.failed_tests,
        "losses": known.losses,
        "evictions": known.evictions,
        "job_faults": known.job_faults,
        "down_mbps": known.down_mbps,
        "up_mbps": known.up_mbps,
        "bill_to_quote": known.price_ratio,
        "last_at": iso(known.last_at or None),
        "last_fault_at": iso(known.last_fault_at),
        "last_fault": known.last_fault,
        "not_rented_because": row.stands,
    }
