"""The providers that the settings ask for. A new provider is one module, one builder here and one line in `BUILDERS`.

Modules of providers are imported by their builders: what is not used costs no start-up time.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuscale_tui.model.errors import FieldError
from gpuscale_tui.model.offers import Market
from gpuscale_tui.model.settings import CloreConfig, Settings
from gpuscale_tui.providers.base import Provider

KEY_VARIABLE = "CLORE_API_KEY"
URL_VARIABLE = "GPUSCALE_CLORE_URL"
_KEY_FIELD = "providers.clore.api_key_file"
_KEY = re.compile(r"[\x21-\x7e]{1,512}")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a builder may use. `clore_cache_sec` None means the provider's own default."""

    settings: Settings
    state_dir: Path
    environ: Mapping[str, str]
    clore_cache_sec: float | None = None


def build_providers(
    settings: Settings, *, state_dir: Path, environ: Mapping[str, str], clore_cache_sec: float | None = None
) -> dict[str, Provider]:
    """Every enabled provider by its name. No network.

    `state_dir` is where providers keep files of their own. Raises FieldError for a missing or unusable key, host list
    or address.
    """
    around = Surroundings(settings, state_dir, environ, clore_cache_sec)
    built = {name: build(around) for name, build in BUILDERS.items()}
    return {name: provider for name, provider in built.items() if provider is not None}


def _build_clore(around: Surroundings) -> Provider | None:
    config = around.settings.providers.clore
    if not config.enabled:
        return None
    from gpuscale_tui.providers.clore.api import CloreApi
    from gpuscale_tui.providers.clore.limiter import Intervals, Limiter
    from gpuscale_tui.providers.clore.pace import shared_pace
    from gpuscale_tui.providers.clore.provider import MARKET_CACHE_SEC, CloreProvider

    key, url = clore_key(config, around.environ), clore_url(config, around.environ)
    pace = shared_pace(key, Intervals(config.request_interval_sec, config.create_interval_sec))
    api = CloreApi(key, url, Limiter(config.request_interval_sec, config.create_interval_sec, pace))
    markets = frozenset(Market) if config.order_type == "auto" else frozenset({Market(config.order_type)})
    lease_sec = round(around.settings.scaler.lease_hours * 3600)
    cache_sec = MARKET_CACHE_SEC if around.clore_cache_sec is None else around.clore_cache_sec
    return CloreProvider(api, currency=config.currency, markets=markets, cache_sec=cache_sec, lease_sec=lease_sec)


def _build_ssh(around: Surroundings) -> Provider | None:
    hosts = around.settings.providers.ssh.hosts
    if not hosts:
        return None
    from gpuscale_tui.providers.ssh import SshProvider

    names = [host.name for host in hosts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise FieldError("providers.ssh.hosts.name", twice, "a name that no other host has")
    return SshProvider(hosts, around.state_dir / "ssh")


BUILDERS: Mapping[str, Callable[[Surroundings], Provider | None]] = {
    "clore": _build_clore,
    "ssh": _build_ssh,
}
"""In the order in which providers are asked and listed."""


def prints(settings: Settings, environ: Mapping[str, str]) -> dict[str, object]:
    """What each enabled provider is built from, by its name: with equal prints there is nothing to build anew.

    Raises FieldError as `build_providers` does. Holds keys: not to be shown or kept longer than needed.
    """
    made: dict[str, object] = {}
    clore, hosts = settings.providers.clore, settings.providers.ssh.hosts
    if clore.enabled:
        made["clore"] = (
            clore_key(clore, environ), clore_url(clore, environ), clore.currency, clore.order_type,
            clore.request_interval_sec, clore.create_interval_sec, settings.scaler.lease_hours,
        )  # fmt: skip
    if hosts:
        made["ssh"] = hosts
    return made


def clore_url(config: CloreConfig, environ: Mapping[str, str]) -> str:
    """The API's address. Raises FieldError for one that would send the key over the network in the clear."""
    from gpuscale_tui.providers.clore.address import host_of, on_this_computer

    field, url = "providers.clore.base_url", config.base_url
    if environ.get(URL_VARIABLE):
        field, url = URL_VARIABLE, environ[URL_VARIABLE]
    safe = url.startswith("https://") or (url.startswith("http://") and on_this_computer(url))
    if not safe or not host_of(url):
        raise FieldError(field, url, "an https:// address, or an http:// one of this computer (127.0.0.1)")
    return url


def clore_key(config: CloreConfig, environ: Mapping[str, str]) -> str:
    """The API key from the environment or the file. Raises FieldError, which says what to mend but not the key."""
    key = environ.get(KEY_VARIABLE, "").strip()
    source = f"the environment's {KEY_VARIABLE}"
    if not key:
        if config.api_key_file is None:
            raise FieldError(_KEY_FIELD, None, f"a file of mode 0600 with the API key, or set {KEY_VARIABLE}")
        source = config.api_key_file
        key = _key_in(Path(config.api_key_file).expanduser())
    if not _KEY.fullmatch(key):
        raise FieldError(_KEY_FIELD, source, "one word of printable ASCII letters: the API key and nothing else")
    return key


def _key_in(path: Path) -> str:
    """The content of a file that only its owner may read."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise FieldError(_KEY_FIELD, str(path), "a regular file with the API key")
        if mode & 0o077:
            found = f"{path} (mode {stat.S_IMODE(mode):04o})"
            raise FieldError(_KEY_FIELD, found, f"a file that only you can read: chmod 600 {path}")
        with path.open("rb") as stream:
            return stream.read(4096).decode("ascii", errors="replace").strip()
    except OSError as error:
        raise FieldError(_KEY_FIELD, str(path), f"a readable file with the API key ({error.strerror})") from error
