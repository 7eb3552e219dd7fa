"""Hosts that we already own, from the settings: one rental a host.

A taken host is one small file in the home, made whole or not at all, so that a rental outlives any end of the program.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from gpuscale_tui import rights
from gpuscale_tui.model.gpus import canonical_gpu, same_gpu
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.money import Terms, parse_usd
from gpuscale_tui.model.offers import Market, Need, Offer, Rental, Survey
from gpuscale_tui.model.settings import SshHost
from gpuscale_tui.providers.base import (
    Accepted,
    Claim,
    ProviderError,
    ProviderFacts,
    RentOutcome,
    RentRefused,
    RentRequest,
    Unknown,
)

SUFFIX = ".json"


def wall_clock_ms() -> int:
    """UTC milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Holding:
    """The content of a taken host's file. `rate` is micro-dollars per hour; `taken_at` UTC ms."""

    name: str
    token: str
    taken_at: int
    image: str
    rate: int
    host: str
    port: int
    user: str
    key_file: str | None

    @property
    def order_id(self) -> str:
        """The rental's name: of this host and this token, so that an old release frees no later rental."""
        return f"{self.name}:{self.token}"


class SshProvider:
    """Rents nothing: hands out our own hosts, each to one rental at a time.

    `state_dir` holds one file for each taken host; it is made with mode 0700. `now` is UTC milliseconds.
    """

    def __init__(self, hosts: Sequence[SshHost], state_dir: Path, *, now: Callable[[], int] = wall_clock_ms) -> None:
        self._hosts = {host.name: host for host in hosts}
        self._state_dir = state_dir
        self._now = now
        self.facts = ProviderFacts(
            name="ssh",
            elastic=False,
            has_spot=False,
            billing_unit_ms=1,
            listing_lag_ms=0,
            boots=False,
            recognised_by="our token in the file of the taken host",
        )

    async def offers(self, need: Need) -> Survey:
        """See `Provider.offers`."""
        if need.provider not in {None, self.facts.name}:
            return Survey()
        taken = {holding.name for holding in await asyncio.to_thread(self._holdings)}
        matching = [host for host in self._hosts.values() if _right_model(host, need.gpu_type)]
        reasons = {host.name: _obstacle(host, need, taken) for host in matching}
        offers = tuple(_offer(host) for host in matching if reasons[host.name] is None)
        return Survey(offers, dict(Counter(reason for reason in reasons.values() if reason)))

    async def rent(self, request: RentRequest) -> RentOutcome:
        """See `Provider.rent`."""
        host = self._hosts.get(request.offer.server_id)
        if host is None:
            return RentRefused(f"there is no host {request.offer.server_id!r} in the settings")
        rate = _rate(host)
        if rate > request.max_rate:
            return RentRefused("the price is above the highest acceptable rate")
        holding = Holding(
            host.name, request.token, self._now(), request.image, rate, host.host, host.port, host.user, host.key_file
        )
        return await asyncio.to_thread(self._take, holding)

    async def rentals(self) -> tuple[Rental, ...]:
        """See `Provider.rentals`. A host that has left the settings is listed as long as it is taken."""
        holdings = await asyncio.to_thread(self._holdings)
        return tuple(_rental(holding, self._hosts.get(holding.name)) for holding in holdings)

    def recognises(self, claim: Claim, rental: Rental) -> bool:
        """See `Provider.recognises`."""
        return rental.server_id == claim.server_id and rental.token == claim.token

    async def release(self, order_id: str) -> None:
        """See `Provider.release`."""
        await asyncio.to_thread(self._free, order_id)

    async def balance(self) -> None:
        """See `Provider.balance`: nobody is paid for hosts of one's own."""

    async def aclose(self) -> None:
        """Nothing is open."""

    def _path(self, name: str) -> Path:
        return self._state_dir / f"{name}{SUFFIX}"

    def _take(self, holding: Holding) -> RentOutcome:
        """Make the host's file, which only one caller can; the file appears complete and on the disk."""
        draft = self._state_dir / f".{holding.name}.{secrets.token_hex(8)}"
        path = self._path(holding.name)
        try:
            rights.make_directory(self._state_dir)
            _write_durably(draft, msgspec.json.encode(asdict(holding)))
            path.hardlink_to(draft)
        except FileExistsError:
            return self._already_taken(holding)
        except OSError as error:
            return RentRefused(f"cannot note in {self._state_dir} that the host is taken: {error.strerror}")
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
        return self._settle(holding)

    def _settle(self, holding: Holding) -> RentOutcome:
        try:
            _sync_directory(self._state_dir)
        except OSError as error:
            return Unknown(f"{self._path(holding.name)} may not outlive a power loss: {error.strerror}")
        return Accepted(holding.order_id)

    def _already_taken(self, wanted: Holding) -> RentOutcome:
        try:
            holding = _read(self._path(wanted.name))
        except ProviderError as error:
            return Unknown(str(error))
        if holding is not None and holding.token == wanted.token:
            return Accepted(holding.order_id)
        return RentRefused("the host is taken")

    def _holdings(self) -> list[Holding]:
        """Every taken host. Raises ProviderError when a file cannot be read: that host's rental would be forgotten."""
        try:
            # Not Path.glob: it takes an unreadable directory for an empty one.
            names = sorted(path.name for path in self._state_dir.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ProviderError(f"cannot list {self._state_dir}: {error.strerror}") from error
        notes = [name for name in names if name.endswith(SUFFIX) and not name.startswith(".")]
        found = [_read(self._state_dir / name) for name in notes]
        return [holding for holding in found if holding is not None]

    def _free(self, order_id: str) -> None:
        for holding in self._holdings():
            if holding.order_id == order_id:
                try:
                    self._path(holding.name).unlink(missing_ok=True)
                    _sync_directory(self._state_dir)
                except OSError as error:
                    raise ProviderError(f"cannot free {holding.name}: {error.strerror}") from error


def _gpu(host: SshHost) -> str | None:
    return None if host.gpu_type.strip().casefold() in {"none", ""} else canonical_gpu(host.gpu_type)


def _gpu_count(host: SshHost) -> int:
    """A host that names a GPU and no number has one."""
    return 0 if _gpu(host) is None else max(1, host.gpu_count)


def _right_model(host: SshHost, wanted: str | None) -> bool:
    model = _gpu(host)
    return wanted is None or (model is not None and same_gpu(model, wanted))


def _obstacle(host: SshHost, need: Need, taken: set[str]) -> str | None:
    if need.market is Market.SPOT:
        return "never spot"
    count = _gpu_count(host)
    if need.gpu_type is not None and count < need.gpu_count:
        return f"{count} {'GPU' if count == 1 else 'GPUs'}, not {need.gpu_count}"
    return "taken" if host.name in taken else None


def _rate(host: SshHost) -> int:
    return parse_usd(host.price_per_hour)


def _offer(host: SshHost) -> Offer:
    return Offer(
        provider="ssh",
        server_id=host.name,
        gpu_type=_gpu(host),
        gpu_count=_gpu_count(host),
        terms=Terms(rate=_rate(host)),
        any_image=True,
    )


def _rental(holding: Holding, host: SshHost | None) -> Rental:
    """Up at once. The address is the settings' present one; of a host no longer there, the one it was taken with."""
    at = holding if host is None else host
    return Rental(
        order_id=holding.order_id,
        server_id=holding.name,
        created_at=holding.taken_at,
        up=True,
        endpoint=Endpoint(at.host, at.port, at.user, key_file=at.key_file),
        image=holding.image,
        token=holding.token,
        rate=holding.rate,
    )


def _read(path: Path) -> Holding | None:
    """The holding in this file, None when it is gone. Raises ProviderError naming the file and the way out."""
    try:
        fields: Mapping[str, object] = json.loads(path.read_bytes())
        holding = msgspec.convert(fields, Holding, strict=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProviderError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, msgspec.MsgspecError) as error:
        way_out = "remove the file if nothing of gpuscale runs on that host"
        raise ProviderError(f"{path} is not the note of a taken host; {way_out}") from error
    if holding.name != path.name.removesuffix(SUFFIX):
        raise ProviderError(f"{path} is the note of another host ({holding.name}); it was renamed by somebody")
    return holding


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    rights.settle(path)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
