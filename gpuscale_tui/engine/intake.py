"""Checks of a submission that need more than the specification itself; the screen's form and the verb share them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuscale_tui.model.errors import FieldError, nearest
from gpuscale_tui.model.gpus import KNOWN_GPUS, same_gpu
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.model.money import format_usd, parse_usd
from gpuscale_tui.model.offers import Need
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.store import market

MEGABYTE = 1_000_000
MOST_JOBS = 10_000
"""Jobs that one submission may have."""
PROVIDERS = ("clore", "ssh")
"""Names that a job may give as its provider (the builders of `providers.registry`)."""


@dataclass(frozen=True, slots=True)
class CheckedWorkdir:
    """A working directory that can be uploaded; `left_out` names what of it does not travel (links that lead out)."""

    path: Path
    left_out: tuple[str, ...] = ()


def check_workdir(path: str | Path, max_mb: float) -> CheckedWorkdir:
    """A job's working directory with an absolute path. Raises FieldError.

    It must be a directory that can be read, and what of it would be uploaded at most `max_mb` megabytes.
    """
    directory = Path(path).expanduser().absolute()
    if not directory.is_dir():
        found = f"{directory} (a file)" if directory.exists() else f"{directory} (it does not exist)"
        raise FieldError("workdir", found, "a directory on this computer")
    if not os.access(directory, os.R_OK | os.X_OK):
        raise FieldError("workdir", str(directory), "a directory that you may read")
    from gpuscale_tui.remote.workdir import select_workdir

    try:
        chosen = select_workdir(directory, max_bytes=int(max_mb * MEGABYTE))
    except (OSError, ValueError) as error:
        allowed = f"readable files of at most {max_mb:g} MB (workdir_max_mb): {error}"
        raise FieldError("workdir", str(directory), allowed) from error
    return CheckedWorkdir(directory, chosen.left_out)


@dataclass(frozen=True, slots=True)
class WorkdirLook:
    """What would be uploaded of a directory: how many files, bytes; which of its entries stay here; what is wrong."""

    files: int = 0
    bytes: int = 0
    staying: tuple[str, ...] = ()
    problem: str = ""


def look_at_workdir(path: Path, max_mb: float) -> WorkdirLook:
    """Look into a directory without refusing it. Blocks for as long as that takes."""
    from gpuscale_tui.remote.workdir import WorkdirError, select_workdir

    try:
        chosen = select_workdir(path, max_bytes=int(max_mb * MEGABYTE))
        entries = sorted(entry.name for entry in path.iterdir())
    except (OSError, WorkdirError) as error:
        return WorkdirLook(problem=str(error))
    sent = {name.partition("/")[0] for name in chosen.files}
    staying = dict.fromkeys([*(name for name in entries if name not in sent), *chosen.left_out])
    return WorkdirLook(len(chosen.files), chosen.total_bytes, tuple(staying))


def check_provider(name: str | None) -> None:
    """Refuse a provider that does not exist."""
    if name is not None and name not in PROVIDERS:
        raise FieldError("provider", name, f"{' or '.join(PROVIDERS)}{nearest(name, PROVIDERS)}")


def doubts(connection: sqlite3.Connection, specs: Sequence[JobSpec], settings: Settings) -> list[str]:
    """Sentences about jobs that will hardly ever find a machine, as far as settings and store can tell now."""
    needs = dict.fromkeys(spec.need for spec in specs)
    found = [*_provider_doubts(needs, settings), *_gpu_doubts(connection, needs, settings)]
    if any(spec.git is not None for spec in specs) and shutil.which("git") is None:
        found.append("this host has no `git` program, which fetches the code of a job: install it")
    for need in needs:
        doubt = _market_doubt(connection, need, settings)
        found += [doubt] if doubt else []
    return list(dict.fromkeys(found))


def _provider_doubts(needs: Collection[Need], settings: Settings) -> Iterator[str]:
    enabled = {"clore": settings.providers.clore.enabled, "ssh": bool(settings.providers.ssh.hosts)}
    ways = {"clore": "set `enabled = true` in [providers.clore]", "ssh": "list your hosts as [[providers.ssh.hosts]]"}
    if not any(enabled.values()):
        yield f"no provider is set up, so nothing can run yet: {ways['clore']}, or {ways['ssh']}"
        return
    for name in dict.fromkeys(need.provider for need in needs):
        if name is not None and not enabled.get(name, True):
            yield f"provider {name} is not set up: {ways[name]}"


def _gpu_doubts(connection: sqlite3.Connection, needs: Collection[Need], settings: Settings) -> Iterator[str]:
    known = {*KNOWN_GPUS, *market.gpu_types(connection)}
    known |= {host.gpu_type for host in settings.providers.ssh.hosts if host.gpu_type.casefold() != "none"}
    for name in dict.fromkeys(need.gpu_type for need in needs):
        if name is not None and not any(same_gpu(name, other) for other in known):
            yield f"{name!r} is no GPU that is known here{nearest(name, known)}"


def _market_doubt(connection: sqlite3.Connection, need: Need, settings: Settings) -> str | None:
    """Why no machine of the last reading of the market could serve a need; None where one could, or none is known."""
    if need.gpu_type is None or need.provider == "ssh" or _own_host(need, settings):
        return None
    known = [row for row in market.offers(connection, need.gpu_type) if need.provider in {None, row.provider}]
    if not known:
        return None
    fitting = [row for row in known if row.gpu_count >= need.gpu_count]
    if not fitting:
        most = max(row.gpu_count for row in known)
        return f"no machine with {need.gpu_count} x {need.gpu_type} is on the market now, the largest has {most}"
    cheapest = min(row.rate for row in fitting)
    return _price_doubt(need, cheapest, settings)


def _price_doubt(need: Need, cheapest: int, settings: Settings) -> str | None:
    per_gpu = -(-cheapest // max(1, need.gpu_count))
    limit = need.max_price if need.max_price is not None else parse_usd(settings.scaler.max_price_per_gpu)
    cap = parse_usd(settings.scaler.max_hourly_budget)
    if per_gpu > limit:
        return (
            f"the cheapest {need.gpu_type} on the market now costs {format_usd(per_gpu, 3)}/h and GPU, above the"
            f" limit of {format_usd(limit, 3)}: it waits until the price falls, or --max-price is higher"
        )
    if cheapest > cap:
        return (
            f"the cheapest machine that fits costs {format_usd(cheapest, 3)}/h, above max_hourly_budget"
            f" {format_usd(cap)}/h: raise that"
        )
    return None


def _own_host(need: Need, settings: Settings) -> bool:
    """Whether a host of the user's own has what is needed."""
    return any(
        need.gpu_type is not None
        and same_gpu(host.gpu_type, need.gpu_type)
        and max(1, host.gpu_count) >= need.gpu_count
        for host in settings.providers.ssh.hosts
    )
