"""Rows of the database as the model's objects."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict

from gpuscale_tui.model.jobs import Attempt, GitSource, Job, JobSpec, Lost, StartFrom
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.money import Terms
from gpuscale_tui.model.offers import Market
from gpuscale_tui.model.states import AttemptState, Cause, JobState, OrderOutcome, Purpose, Rehearsal, WorkerState
from gpuscale_tui.model.workers import Worker


def job(row: sqlite3.Row) -> Job:
    """A row of `jobs`. Secret values are not in it: `spec.secret_env` names them with empty values."""
    return Job(
        id=row["id"],
        spec=_spec(row),
        state=JobState(row["state"]),
        attempt=row["attempt"],
        faults=row["faults"],
        submitted_at=row["submitted_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        not_before=row["not_before"],
        cancel_requested_at=row["cancel_requested_at"],
        worker_id=row["worker_id"],
        exit_code=row["exit_code"],
        cause=Cause(row["cause"]) if row["cause"] else None,
        error=row["error"],
        cost=row["cost"],
        start_after=row["start_after"],
        rehearsal=Rehearsal(row["rehearsal"]),
        rehearsal_detail=row["rehearsal_detail"],
        git_commit=row["git_commit"],
        rehearsal_attempt=row["rehearsal_attempt"],
    )


def _spec(row: sqlite3.Row) -> JobSpec:
    return JobSpec(
        name=row["name"],
        command=row["command"],
        argv=tuple(json.loads(row["argv"])),
        image=row["image"],
        gpu_type=row["gpu_type"],
        gpu_count=row["gpu_count"],
        max_price=row["max_price"],
        priority=row["priority"],
        max_runtime_sec=row["max_runtime_sec"],
        env=json.loads(row["env"]),
        secret_env=dict.fromkeys(json.loads(row["secret_names"]), ""),
        params=json.loads(row["params"]),
        workdir=row["workdir"],
        checkpoint_dir=row["checkpoint_dir"],
        project=row["project"],
        provider=row["provider"],
        market=Market(row["market"]) if row["market"] else None,
        retries=row["retries"],
        user=row["user"],
        start_from=None if row["start_job"] is None else StartFrom(row["start_job"], row["start_snapshot"]),
        git=None if row["git_url"] is None else GitSource(row["git_url"], row["git_rev"]),
        data=json.loads(row["data"]),
        stop_signal=row["stop_signal"],
        grace_sec=row["grace_sec"],
        rehearse=row["rehearsal"] != "",
    )


def spec_columns(spec: JobSpec) -> dict[str, object]:
    """The columns of `jobs` that say what was asked for, without the values of secrets."""
    return {
        "name": spec.name,
        "priority": spec.priority,
        "group_key": spec.need.key,
        "command": spec.command,
        "argv": json.dumps(spec.argv),
        "image": spec.image,
        "gpu_type": spec.gpu_type,
        "gpu_count": spec.gpu_count,
        "max_price": spec.max_price,
        "max_runtime_sec": spec.max_runtime_sec,
        "env": json.dumps(dict(spec.env)),
        "secret_names": json.dumps(sorted(spec.secret_env)),
        "params": json.dumps(dict(spec.params)),
        "workdir": spec.workdir,
        "checkpoint_dir": spec.checkpoint_dir,
        "project": spec.project,
        "provider": spec.provider,
        "market": spec.market,
        "retries": spec.retries,
        "user": spec.user,
        "start_job": spec.start_from.job_id if spec.start_from else None,
        "start_snapshot": spec.start_from.snapshot if spec.start_from else None,
        "git_url": spec.git.url if spec.git else None,
        "git_rev": spec.git.rev if spec.git else "",
        "data": json.dumps(dict(spec.data)),
        "stop_signal": spec.stop_signal,
        "grace_sec": spec.grace_sec,
        "rehearsal": Rehearsal.WANTED if spec.rehearse else Rehearsal.NONE,
    }


def attempt(row: sqlite3.Row) -> Attempt:
    """A row of `attempts`."""
    return Attempt(
        job_id=row["job_id"],
        number=row["number"],
        worker_id=row["worker_id"],
        state=AttemptState(row["state"]),
        assigned_at=row["assigned_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        cause=Cause(row["cause"]) if row["cause"] else None,
        exit_code=row["exit_code"],
        output_bytes=row["output_bytes"],
        resumed_from=row["resumed_from"],
        stalled_at=row["stalled_at"],
        resumed_step=row["resumed_step"],
        first_step=row["first_step"],
        lost=None if row["lost_ms"] is None else Lost(row["lost_ms"], row["lost_cost"], row["lost_steps"]),
    )


def worker(row: sqlite3.Row) -> Worker:
    """A row of `workers`. Once its order is known, what was listed before the order says nothing more and is not read:
    in a large fleet it is by far the longest part."""
    return Worker(
        id=row["id"],
        provider=row["provider"],
        state=WorkerState(row["state"]),
        token=row["token"],
        order_id=row["order_id"],
        server_id=row["server_id"],
        owner=row["owner"],
        gpu_type=row["gpu_type"],
        gpu_count=row["gpu_count"],
        image=row["image"],
        market=Market(row["market"]),
        terms=Terms(**json.loads(row["terms"])),
        quote=row["quote"],
        group_key=row["group_key"],
        purpose=Purpose(row["purpose"]),
        endpoint=_endpoint(row),
        outcome=OrderOutcome(row["outcome"]) if row["outcome"] else None,
        known_orders=frozenset(json.loads(row["known_orders"]) if row["order_id"] is None else ()),
        absences=row["absences"],
        created_at=row["created_at"],
        call_ended_at=row["call_ended_at"],
        held_from=row["held_from"],
        idle_since=row["idle_since"],
        contact_at=row["contact_at"],
        release_asked=row["release_asked"],
        release_next_at=row["release_next_at"],
        ended_at=row["ended_at"],
        job_id=row["job_id"],
        attempt=row["attempt"],
        cost=row["cost"],
        billed=bool(row["billed"]),
        cause=Cause(row["cause"]) if row["cause"] else None,
        reason=row["reason"],
        why=row["why"],
        up_at=row["up_at"],
        ready_at=row["ready_at"],
        expires_at=row["expires_at"],
        silent_since=row["silent_since"],
        down_since=row["down_since"],
    )


def _endpoint(row: sqlite3.Row) -> Endpoint | None:
    if row["host"] is None:
        return None
    return Endpoint(row["host"], row["port"], row["ssh_user"], row["host_key"], row["key_file"])


def terms_json(terms: Terms) -> str:
    """Terms as the column `workers.terms` keeps them."""
    return json.dumps(asdict(terms))
