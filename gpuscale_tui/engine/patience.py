"""How long the engine waits for a machine: by what its host, its image and its provider took before."""

from __future__ import annotations

from gpuscale_tui.engine.context import Context
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.policy.patience import Patience, Samples, boot_patience, silence_patience
from gpuscale_tui.store import liveness

OWN_HOST_BOOT_SEC = 120.0


async def for_boot(context: Context, worker: Worker) -> Patience:
    """How long it may take to come up."""
    provider = context.providers.get(worker.provider)
    if provider is None or not provider.facts.boots:
        return Patience(OWN_HOST_BOOT_SEC, "a host of our own")
    known = await context.db.read(liveness.boot_times, worker)
    levels = (
        Samples(f"on {worker.provider}", known["provider"]),
        Samples("with this image", known["image"]),
        Samples(f"on host {worker.server_id}", known["host"]),
    )
    return boot_patience(context.settings.providers.clore.deploy_timeout_sec, levels)


async def for_silence(context: Context, worker: Worker) -> Patience:
    """How long it may be out of reach."""
    known = await context.db.read(liveness.silences, worker)
    levels = (
        Samples(f"on {worker.provider}", known["provider"]),
        Samples(f"on host {worker.server_id}", known["host"]),
    )
    down = worker.down_since is not None
    return silence_patience(context.settings.scaler.lost_contact_sec, levels, says_down=down)
