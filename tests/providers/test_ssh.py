"""Hosts of our own: what the files promise beyond the contract."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.model.offers import Market, Need, Survey
from gpuscale_tui.model.settings import SshHost
from gpuscale_tui.providers import ssh
from gpuscale_tui.providers.base import Accepted, Claim, ProviderError, RentRefused
from gpuscale_tui.providers.ssh import SshProvider

BIG = SshHost("big", "10.0.0.1", 2222, "trainer", "/keys/big", "NVIDIA GeForce RTX 4090", 2, 0.75)
SMALL = SshHost("small", "gpu.example", gpu_type="rtx 4090", gpu_count=0)
PLAIN = SshHost("plain", "10.0.0.3")
HOSTS = (BIG, SMALL, PLAIN)
NOW_MS = 1_790_000_000_000


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., SshProvider]:
    """A provider over the same files each time, as after a restart."""
    return lambda hosts=HOSTS: SshProvider(hosts, tmp_path / "home" / "ssh", now=lambda: NOW_MS)


async def rent(provider: SshProvider, samples: Any, host: str, token: str = "t-1", **changes: Any) -> Any:
    survey = await provider.offers(Need("any", None, 0, None))
    (offer,) = [offer for offer in survey.offers if offer.server_id == host]
    return await provider.rent(samples.request(offer, token, **changes))


async def test_offers_say_what_the_hosts_are(make: Any) -> None:
    survey = await make().offers(Need("any", None, 0, None))
    seen = {offer.server_id: (offer.gpu_type, offer.gpu_count, offer.rate, offer.any_image) for offer in survey.offers}
    assert seen == {
        "big": ("RTX 4090", 2, 750_000, True),
        "small": ("RTX 4090", 1, 0, True),
        "plain": (None, 0, 0, True),
    }
    assert all(offer.terms.unit_ms == 1 for offer in survey.offers)


async def test_only_the_right_hosts_are_offered_and_the_rest_counted(make: Any, samples: Any) -> None:
    provider = make()
    assert (await provider.offers(samples.need(gpu_count=2))).rejected == {"1 GPU, not 2": 1}
    await rent(provider, samples, "big")
    assert await provider.offers(samples.need(gpu_count=2)) == Survey((), {"taken": 1, "1 GPU, not 2": 1})
    assert [offer.server_id for offer in (await provider.offers(samples.need())).offers] == ["small"]
    assert (await provider.offers(samples.need("H100"))).offers == ()
    assert (await provider.offers(samples.need(provider="clore"))) == Survey()
    assert (await provider.offers(samples.need(market=Market.SPOT))).offers == ()


async def test_a_rental_is_up_at_once_at_the_address_of_the_settings(make: Any, samples: Any) -> None:
    provider = make()
    assert await rent(provider, samples, "big") == Accepted("big:t-1")
    (rental,) = await provider.rentals()
    endpoint = rental.endpoint
    assert endpoint is not None
    assert (endpoint.host, endpoint.port, endpoint.user, endpoint.key_file) == (
        "10.0.0.1", 2222, "trainer", "/keys/big",
    )  # fmt: skip
    assert (rental.up, rental.token, rental.created_at, rental.billed, rental.rate) == (
        True, "t-1", NOW_MS, None, 750_000,
    )  # fmt: skip


async def test_an_address_mended_in_the_settings_reaches_a_taken_host(make: Any, samples: Any) -> None:
    await rent(make(), samples, "big")
    (rental,) = await make((replace(BIG, host="10.9.9.9"),)).rentals()
    assert rental.endpoint is not None
    assert rental.endpoint.host == "10.9.9.9"


async def test_a_host_that_left_the_settings_is_still_listed_and_released(make: Any, samples: Any) -> None:
    await rent(make(), samples, "big")
    provider = make((PLAIN,))
    (rental,) = await provider.rentals()
    assert rental.endpoint is not None
    assert (rental.server_id, rental.endpoint.host, rental.rate) == ("big", "10.0.0.1", 750_000)
    await provider.release(rental.order_id)
    assert await provider.rentals() == ()
    outcome = await provider.rent(samples.request(await _offer(make(), "big"), "t-2"))
    assert isinstance(outcome, RentRefused)


async def _offer(provider: SshProvider, host: str) -> Any:
    survey = await provider.offers(Need("any", None, 0, None))
    return next(offer for offer in survey.offers if offer.server_id == host)


async def test_of_many_who_want_a_host_at_once_one_gets_it(make: Any, samples: Any) -> None:
    offer = await _offer(make(), "plain")
    requests = [samples.request(offer, f"t-{number}") for number in range(20)]
    outcomes = await asyncio.gather(*(make().rent(request) for request in requests))
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
    (rental,) = await make().rentals()
    assert [outcome.order_id for outcome in accepted] == [rental.order_id]


async def test_the_same_token_again_is_the_same_rental(make: Any, samples: Any) -> None:
    provider = make()
    offer = await _offer(provider, "plain")
    outcomes = [await provider.rent(samples.request(offer, "t-1")) for _ in range(2)]
    assert outcomes == [Accepted("plain:t-1"), Accepted("plain:t-1")]


async def test_it_is_recognised_by_token_and_host_alone(make: Any, samples: Any) -> None:
    provider = make()
    await rent(provider, samples, "plain")
    (rental,) = await provider.rentals()
    claims = {
        pair: provider.recognises(Claim(pair[0], pair[1], "another", 0), rental)
        for pair in [("t-1", "plain"), ("t-2", "plain"), ("t-1", "big")]
    }
    assert claims == {("t-1", "plain"): True, ("t-2", "plain"): False, ("t-1", "big"): False}


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"name": "plain"}', b'{"name":7}', b"{" * 2000],
)
async def test_a_spoilt_file_is_an_error_that_names_it_and_the_way_out(
    make: Any, samples: Any, tmp_path: Path, content: bytes
) -> None:
    provider = make()
    await rent(provider, samples, "big")
    path = tmp_path / "home" / "ssh" / "plain.json"
    path.write_bytes(content)
    for call in (provider.rentals(), provider.offers(Need("any", None, 0, None))):
        with pytest.raises(ProviderError, match=r"plain\.json.*remove the file"):
            await call


async def test_a_directory_that_cannot_be_listed_is_an_error(make: Any, tmp_path: Path) -> None:
    assert await make().rentals() == (), "before its first use there is none"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "ssh").write_text("in the way")
    with pytest.raises(ProviderError, match="cannot list"):
        await make().rentals()


async def test_a_renamed_file_is_an_error(make: Any, samples: Any, tmp_path: Path) -> None:
    provider = make()
    await rent(provider, samples, "big")
    (tmp_path / "home" / "ssh" / "big.json").rename(tmp_path / "home" / "ssh" / "plain.json")
    with pytest.raises(ProviderError, match="renamed"):
        await provider.rentals()


async def test_files_are_private_and_no_draft_is_left(make: Any, samples: Any, tmp_path: Path) -> None:
    await rent(make(), samples, "big")
    directory = tmp_path / "home" / "ssh"
    assert [path.name for path in directory.iterdir()] == ["big.json"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "big.json").stat().st_mode) == 0o600


async def test_a_full_disk_is_a_refusal_and_takes_nothing(
    make: Any, samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = make()
    offer = await _offer(provider, "big")

    def full(path: Path, content: bytes) -> None:
        path.write_bytes(content[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ssh, "_write_durably", full)
    outcome = await provider.rent(samples.request(offer))
    assert isinstance(outcome, RentRefused)
    assert "No space left" in outcome.reason
    assert await provider.rentals() == ()


KILLED = """
import asyncio, os, sys
from pathlib import Path
from gpuscale_tui.model.offers import Need
from gpuscale_tui.model.settings import SshHost
from gpuscale_tui.providers.base import RentRequest
from gpuscale_tui.providers.ssh import SshProvider
async def main():
    provider = SshProvider([SshHost("plain", "10.0.0.3")], Path(sys.argv[1]))
    (offer,) = (await provider.offers(Need("any", None, 0, None))).offers
    await provider.rent(RentRequest("t-9", offer, "any", "key", offer.rate, 0))
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


async def test_a_rental_outlives_kill_9(make: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "home" / "ssh")]
    ended = await asyncio.to_thread(subprocess.run, command, cwd=Path.cwd(), check=False, timeout=90)
    assert ended.returncode == -9
    (rental,) = await make().rentals()
    assert (rental.order_id, rental.token) == ("plain:t-9", "t-9")


async def test_the_note_holds_no_more_than_it_needs(make: Any, samples: Any, tmp_path: Path) -> None:
    await rent(make(), samples, "big")
    note = json.loads((tmp_path / "home" / "ssh" / "big.json").read_bytes())
    assert set(note) == {"name", "token", "taken_at", "image", "rate", "host", "port", "user", "key_file"}
