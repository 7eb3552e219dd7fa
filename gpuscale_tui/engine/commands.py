"""The one command surface: everything that the screen, the verbs and the Python API can do.

Each command is a plain function of the store's connection, to be run by `Database.write` or `AsyncDatabase.write`. It
changes the store only; a running engine notices (sooner when `engine.doorbell.ring` follows) and acts. `user` is who
asks, `now` UTC ms. Raises NotFound, FieldError or Refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from gpuscale_tui.model.errors import FieldError, NotFound, Refused
from gpuscale_tui.model.hosts import Ban
from gpuscale_tui.model.jobs import JobSpec, StartFrom, job_label, worker_label
from gpuscale_tui.model.money import Terms, format_usd, parse_usd
from gpuscale_tui.model.plain import clean
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.model.states import LIVE_WORKER_STATES, JobState
from gpuscale_tui.model.sweep import PARAM_PREFIX
from gpuscale_tui.policy.wording import usd_at_least
from gpuscale_tui.store import engines, events, hosts, jobs, market, workers
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.secrets import read_job_secrets, write_job_secrets


def submit(
    connection: sqlite3.Connection, home: Home, specs: Sequence[JobSpec], *, now: int, secrets_of: int | None = None
) -> list[int]:
    """Submit jobs, all or none; returns their ids in the order given. Values of secrets go to 0600 files only.

    Secrets with an empty value take that of the same name of the job `secrets_of`. Raises NotFound or Refused where a
    job is to start from a snapshot that is not kept.
    """
    for start in dict.fromkeys(spec.start_from for spec in specs):
        if start is not None:
            _must_be_kept(connection, start)
    known = read_job_secrets(home, secrets_of) if secrets_of is not None else {}
    ids = jobs.insert(connection, specs, now)
    for job_id, spec in zip(ids, specs, strict=True):
        if spec.secret_env:
            write_job_secrets(home, job_id, _known(spec.secret_env, known))
    return ids


def _must_be_kept(connection: sqlite3.Connection, start: StartFrom) -> None:
    from gpuscale_tui.engine.checkpoints import must_be_kept  # only here: submitting hardly ever needs it

    must_be_kept(connection, start)


def _known(secrets: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """Secrets, the empty ones with the value that is known."""
    return {name: value or known.get(name, "") for name, value in secrets.items()}


def edit(
    connection: sqlite3.Connection, home: Home, job_id: int, attempt: int, spec: JobSpec, *, user: str, now: int
) -> JobSpec:
    """Ask for something else in a job that waits; returns what was asked for before, without values of secrets.

    `attempt` is its latest one as the user saw it: where it has run since, nothing changes. Its user, its sweep's
    values and what it starts from stay; secrets with an empty value stay as they are. Raises NotFound, Refused, and
    FieldError for a project where it has cost something already.
    """
    job = jobs.get(connection, job_id)
    if job is None:
        raise NotFound(f"there is no job {job_label(job_id)}; `gpuscale queue` lists them")
    if job.state != JobState.PENDING:
        raise Refused(f"{job_label(job_id)} is {job.state} now: only a waiting job can be edited")
    if job.attempt != attempt:
        raise Refused(f"{job_label(job_id)} has run in the meantime: look at it again before you edit it")
    before = job.spec
    if job.cost and spec.project != before.project:
        raise FieldError("project", spec.project, f"{before.project or 'none'}: it has cost something, booked to that")
    chosen = {name: value for name, value in before.env.items() if name.startswith(PARAM_PREFIX)}
    wanted = replace(
        spec, user=before.user, params=before.params, start_from=before.start_from, env={**spec.env, **chosen},
        name=spec.name or before.name,
    )  # fmt: skip
    jobs.replace_spec(connection, job_id, wanted)
    changed = dict.fromkeys([*changes(before, wanted), *(["secrets"] if any(spec.secret_env.values()) else [])])
    events.append(connection, now, "request", f"edited by {user}: {', '.join(changed) or 'nothing'}", job_id=job_id)
    if any(spec.secret_env.values()) or spec.secret_env.keys() != before.secret_env.keys():
        write_job_secrets(home, job_id, _known(spec.secret_env, read_job_secrets(home, job_id)))
    return before


def changes(before: JobSpec, after: JobSpec) -> list[str]:
    """Names of the fields that differ, those of secrets by their names only."""
    names = [each.name for each in fields(JobSpec) if each.name not in {"secret_env", "env", "params"}]
    found = [name for name in names if getattr(before, name) != getattr(after, name)]
    found += ["env"] if dict(before.env) != dict(after.env) else []
    return found + (["secrets"] if before.secret_env.keys() != after.secret_env.keys() else [])


def cancel(connection: sqlite3.Connection, job_ids: Sequence[int], *, user: str, now: int) -> list[tuple[int, str]]:
    """Cancel jobs: pending ones at once (`cancelled`), running ones after a save (`cancelling`), final ones stay."""
    _must_exist(connection, job_ids)
    return jobs.request_cancel(connection, job_ids, now, user)


def retry(connection: sqlite3.Connection, job_ids: Sequence[int], *, user: str, now: int) -> list[tuple[int, bool]]:
    """Put finished jobs back in the queue; False for one that is pending or running anyway."""
    _must_exist(connection, job_ids)
    return [(job_id, jobs.retry(connection, job_id, now, user)) for job_id in job_ids]


def set_priority(connection: sqlite3.Connection, job_id: int, priority: int, *, user: str, now: int) -> None:
    """Change a job's priority, 1 (first) to 10 (last)."""
    if not 1 <= priority <= 10:
        raise FieldError("priority", priority, "1 (first) to 10 (last)")
    _must_exist(connection, [job_id])
    jobs.set_priority(connection, job_id, priority, now, user)


def release(connection: sqlite3.Connection, worker_id: int, *, user: str, now: int, wait_ms: int = 0) -> int:
    """Ask for a worker to be given back; a job on it is saved, stopped and put back in the queue.

    The engine hears it after `wait_ms`; returns the request, which can be taken back until then.
    """
    worker = workers.get(connection, worker_id)
    if worker is None:
        raise NotFound(f"there is no worker {worker_label(worker_id)}; `gpuscale workers` lists them")
    if worker.state not in LIVE_WORKER_STATES:
        raise Refused(f"{worker_label(worker_id)} is {worker.state} already")
    return engines.ask(connection, "release", worker_id, user=user, now=now, wait_ms=wait_ms)


def scale_up(connection: sqlite3.Connection, amount: int, settings: Settings, *, user: str, now: int) -> None:
    """Ask for `amount` more machines of the settings' GPU type and image, within max_workers, cap and budgets."""
    live = workers.live(connection)
    limit = settings.scaler.max_workers
    if len(live) + amount > limit:
        raise Refused(
            f"{len(live)} machines are rented and max_workers is {limit}: at most {max(0, limit - len(live))} more"
        )
    cap = parse_usd(settings.scaler.max_hourly_budget)
    committed = workers.committed_rate(connection)
    price = cheapest_price(connection, settings)
    if committed + amount * price > cap:
        raise Refused(
            f"{format_usd(committed)}/h of the cap of {format_usd(cap)}/h are committed and {amount} more would need at"
            f" least {format_usd(amount * price)}/h: raise max_hourly_budget or ask for fewer"
        )
    _keep_the_budget(connection, amount, Terms(price), settings, now)
    engines.ask(connection, "scale_up", amount, user=user, now=now)


def rent(
    connection: sqlite3.Connection,
    offer: market.OfferRow,
    settings: Settings,
    *,
    despite_ban: bool = False,
    user: str,
    now: int,
) -> int:
    """Ask for just this machine, at no more than this price; returns the request's id.

    Raises Refused where a limit stands against it, with the figure that would change that; the engine tests all of them
    again when it writes the intent. `despite_ban` is needed where the host or its owner is banned.
    """
    from gpuscale_tui.engine.by_hand import Wanted  # only here: it brings the renter along

    name = f"server {offer.server_id} of {offer.provider}"
    if "banned" in offer.verdict and not despite_ban:
        raise Refused(f"{name} is {offer.verdict}: lift the ban, or say that you want it all the same")
    live = workers.live(connection)
    for worker in live:
        if (worker.provider, worker.server_id) == (offer.provider, offer.server_id):
            raise Refused(f"{name} is {worker_label(worker.id)} already")
    waiting = [Wanted.read(request.about) for request in engines.open_requests(connection) if request.kind == "rent"]
    if any(each and (each.provider, each.server_id) == (offer.provider, offer.server_id) for each in waiting):
        raise Refused(f"{name} has been asked for already")
    limit, cap = settings.scaler.max_workers, parse_usd(settings.scaler.max_hourly_budget)
    if len(live) >= limit:
        raise Refused(f"{len(live)} machines are rented and max_workers is {limit}: {len(live) + 1} would allow it")
    missing = workers.committed_rate(connection) + offer.rate - cap
    if missing > 0:
        raise Refused(
            f"{name} costs {format_usd(offer.rate)}/h and the cap of {format_usd(cap)}/h lacks"
            f" {usd_at_least(missing)}/h for it: max_hourly_budget {usd_at_least(cap + missing)} would allow it"
        )
    _keep_the_budget(connection, 1, Terms(offer.rate), settings, now)
    about = Wanted(
        offer.provider, offer.server_id, offer.market, offer.gpu_type, offer.gpu_count, offer.rate, despite_ban
    ).write()
    return engines.ask(connection, "rent", 1, about=about, user=user, now=now)


def _keep_the_budget(connection: sqlite3.Connection, amount: int, terms: Terms, settings: Settings, now: int) -> None:
    """Raise Refused where the limits on a day or a month leave nothing for so many machines."""
    from gpuscale_tui.engine.budgets import look  # only here: submitting needs none of it
    from gpuscale_tui.model.budget import budget_of
    from gpuscale_tui.policy.budget import left

    view = look(connection, budget_of(settings), None, now)
    room, first = left(view), amount * terms.charge(view.first_ms)
    if room is not None and first > room:
        raise Refused(
            f"the budget leaves {format_usd(room)} now and the first while of {amount} more would cost at least"
            f" {format_usd(first)}: `gpuscale status` shows the budgets"
        )


def cheapest_price(connection: sqlite3.Connection, settings: Settings) -> int:
    """Micro-dollars per hour of the cheapest known offer of the settings' GPU type, else the settings' price limit."""
    wanted = settings.scaler.gpu_type
    known = [row.rate for row in market.offers(connection, None if wanted == "none" else wanted) if not row.verdict]
    return min(known, default=parse_usd(settings.scaler.max_price_per_gpu))


def scale_down(connection: sqlite3.Connection, amount: int, *, user: str, now: int, wait_ms: int = 0) -> int:
    """Ask for `amount` machines to be given back: idle ones first, the dearest first.

    The engine hears it after `wait_ms`; returns the request, which can be taken back until then.
    """
    live = len(workers.live(connection))
    if amount > live:
        raise Refused(f"only {live} machines are rented")
    return engines.ask(connection, "scale_down", amount, user=user, now=now, wait_ms=wait_ms)


def stop(connection: sqlite3.Connection, *, at_once: bool, user: str, now: int) -> None:
    """Ask the engine to end: after what runs has finished, or at once after saving and giving everything back."""
    engines.ask(connection, "stop_now" if at_once else "stop", None, user=user, now=now)


def reload(connection: sqlite3.Connection, *, user: str, now: int) -> None:
    """Ask a running engine to read the settings anew; one that starts later reads them anyway."""
    engines.ask(connection, "reload", None, user=user, now=now)


def ban(
    connection: sqlite3.Connection,
    scope: str,
    key: str,
    *,
    provider: str | None = None,
    hold_ms: int | None = None,
    reason: str = "",
    user: str,
    now: int,
) -> str:
    """Rent this host (`scope` host, `key` its server id) or any of an owner's no more, for `hold_ms` or for good.

    Machines that are rented there stay. Returns the provider that was meant.
    """
    meant = _provider_of(connection, scope, key, provider)
    until = None if hold_ms is None else now + hold_ms
    hosts.ban(connection, Ban(scope, meant, key, now, until, clean(reason)[:200], user))
    return meant


def unban(
    connection: sqlite3.Connection, scope: str, key: str, *, provider: str | None = None, user: str, now: int
) -> str:
    """Lift a ban; returns the provider that was meant."""
    banned = [held.provider for held in hosts.bans(connection, now) if (held.scope, held.key) == (scope, key)]
    meant = provider or (banned[0] if len(banned) == 1 else _provider_of(connection, scope, key, provider))
    if not hosts.unban(connection, scope, meant, key, user=user, now=now):
        raise NotFound(f"{scope} {key} of {meant} is not banned; `gpuscale hosts` lists them")
    return meant


def _provider_of(connection: sqlite3.Connection, scope: str, key: str, provider: str | None) -> str:
    """Where a host or an owner is meant to be: where it is known, else on the marketplace."""
    if not key or len(key) > 128 or key != clean(key):
        raise FieldError(scope, key, "an id as `gpuscale hosts` and `gpuscale market` print it")
    known = hosts.providers_of(connection, scope, key)
    if provider is None and len(known) > 1:
        raise Refused(f"{scope} {key} is known at {' and '.join(known)}: say which by --provider")
    return provider or (known[0] if known else "clore")


def _must_exist(connection: sqlite3.Connection, job_ids: Sequence[int]) -> None:
    for job_id in job_ids:
        if jobs.get(connection, job_id) is None:
            raise NotFound(f"there is no job {job_label(job_id)}; `gpuscale queue` lists them")
