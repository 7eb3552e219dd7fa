"""`doctor`: everything that must be right before money is spent, each finding with what to do about it.

The checks of this computer come first and need no network; those of providers and hosts run at once, each bounded in
time.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import platform
import shutil
import sqlite3
import stat
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from gpuscale_tui.config import CONFIG_VARIABLE, ConfigError, Loaded, load
from gpuscale_tui.engine.addresses import addresses
from gpuscale_tui.engine.lock import running_engine
from gpuscale_tui.model.errors import FieldError, GpuscaleError
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.money import format_usd, parse_usd
from gpuscale_tui.model.settings import Settings, SshHost
from gpuscale_tui.rights import is_shared
from gpuscale_tui.store import database, engines, health, logs, notices
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.opening import OLDEST_SQLITE

State = Literal["ok", "warn", "fail"]
T = TypeVar("T")

NETWORK_SEC = 20.0
STORAGE_SEC = 90.0
"""Its library tries again by itself for so long."""
HOST_SEC = 10.0
HOSTS_AT_ONCE = 16
LITTLE_DISK, TOO_LITTLE_DISK = 2 * 10**9, 2 * 10**8
CLOCK_FLOOR = 1_735_689_600
"""2025-01-01 UTC: a clock before this program was written is wrong."""
SKEW_SEC = 5.0
HEARTBEAT_MS = 60_000
SMALLEST_SCREEN = (80, 24)


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, how it stands, what was found, and what to do where that is not in order."""

    name: str
    state: State
    found: str
    advice: str = ""


def examine(home: Home, config: Path | None, environ: Mapping[str, str], now: int) -> Iterator[Check]:
    """All checks, each as soon as it is known; `now` is UTC ms. The home is made where there is none yet."""
    yield from check_python()
    yield from check_home(home)
    yield from check_databases(home)
    yield check_clock(home, now)
    yield check_disk(home)
    yield check_terminal(environ)
    yield check_engine(home, now)
    loaded, found = check_settings(config, environ)
    yield from found
    if loaded is not None:
        yield from check_notices(home, loaded, environ, now)
        yield from asyncio.run(check_network(home, loaded.settings, environ))


def check_python() -> Iterator[Check]:
    """Versions of Python and SQLite."""
    yield Check("python", "ok", f"{platform.python_version()} at {sys.executable}")
    needed = ".".join(map(str, OLDEST_SQLITE))
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        advice = f"use a Python with SQLite {needed} or newer"
        yield Check("sqlite", "fail", sqlite3.sqlite_version, advice)
    else:
        yield Check("sqlite", "ok", sqlite3.sqlite_version)


def check_home(home: Home) -> Iterator[Check]:
    """Whether the home can be written, and whether it is the user's alone."""
    try:
        home.ensure()
        with tempfile.NamedTemporaryFile(dir=home.path, prefix=".doctor-"):
            pass
    except OSError as error:
        advice = "make the directory writable for you, or choose another with --home or $GPUSCALE_HOME"
        yield Check("home", "fail", f"{home.path}: {error.strerror or error}", advice)
        return
    strangers = 0o007 if is_shared(home.path) else 0o077
    open_to_others = [path for path in _private(home) if path.exists() and path.stat().st_mode & strangers]
    if open_to_others:
        listed = ", ".join(f"{path} ({stat.S_IMODE(path.stat().st_mode):04o})" for path in open_to_others)
        advice = f"chmod -R go= {home.path}"
        yield Check("home", "warn", f"others can read: {listed}", advice)
    else:
        yield Check("home", "ok", str(home.path))


def _private(home: Home) -> tuple[Path, ...]:
    return (home.path, home.database, home.logs, home.client_key.parent, home.client_key, home.secrets)


def check_databases(home: Home) -> Iterator[Check]:
    """Whether the database files open and are intact."""
    files: tuple[tuple[str, Path, Callable[[Path], sqlite3.Connection]], ...] = (
        ("database", home.database, lambda path: database.connect(path, readonly=True)),
        ("logs", home.logs, lambda path: logs.connect_logs(path, readonly=True)),
    )
    for name, path, connect in files:
        if not path.exists() and not path.with_name(path.name + "-wal").exists():
            yield Check(name, "ok", f"{path}: not there yet; it is made at first use")
            continue
        yield _check_database(name, path, connect)


def _check_database(name: str, path: Path, connect: Callable[[Path], sqlite3.Connection]) -> Check:
    restore = "stop the engine, then restore the file from a backup or move it away"
    try:
        with contextlib.closing(connect(path)) as connection:
            found = health.damage(connection)
    except GpuscaleError as error:
        return Check(name, "fail", str(error), restore)
    except sqlite3.Error as error:
        return Check(name, "fail", f"{path}: {error}", restore)
    if found:
        return Check(name, "fail", f"{path}: {'; '.join(found)}", restore)
    return Check(name, "ok", f"{path}: intact, {path.stat().st_size / 1e6:.1f} MB")


def check_clock(home: Home, now: int) -> Check:
    """Whether the clock can be right: money and time-outs hang on it."""
    advice = "set the clock, and let NTP keep it"
    if now < CLOCK_FLOOR * 1000:
        return Check("clock", "fail", f"it says {_utc(now)}", advice)
    newest = _newest_event(home)
    if newest is not None and newest > now + SKEW_SEC * 1000:
        return Check("clock", "warn", f"it says {_utc(now)}, but something was recorded at {_utc(newest)}", advice)
    skew = _disk_skew(home)
    if skew is not None and abs(skew) > SKEW_SEC:
        return Check("clock", "warn", f"the disk of the home is {skew:+.0f} s away from this computer's clock", advice)
    return Check("clock", "ok", _utc(now))


def _newest_event(home: Home) -> int | None:
    return _ask(home, health.newest_event_at)


def _ask(home: Home, query: Callable[[sqlite3.Connection], T]) -> T | None:
    """What the store says; None where it cannot be read, which the check of the database tells."""
    try:
        with contextlib.closing(database.connect(home.database, readonly=True)) as connection:
            return query(connection)
    except (GpuscaleError, sqlite3.Error):
        return None


def _disk_skew(home: Home) -> float | None:
    """How far the clock of the file system (it may be a server's) is ahead of ours, in seconds."""
    try:
        with tempfile.NamedTemporaryFile(dir=home.path, prefix=".doctor-") as file:
            return Path(file.name).stat().st_mtime - time.time()
    except OSError:  # told by the check of the home
        return None


def _utc(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at / 1000))


def check_disk(home: Home) -> Check:
    """Whether there is room for logs and checkpoints."""
    place = next(path for path in (home.path, *home.path.parents) if path.exists())
    free = shutil.disk_usage(place).free
    found = f"{free / 1e9:.1f} GB free at {place}"
    advice = "make room: logs and checkpoints are kept there, and without room no new work is begun"
    if free < TOO_LITTLE_DISK:
        return Check("disk", "fail", found, advice)
    return Check("disk", "warn", found, advice) if free < LITTLE_DISK else Check("disk", "ok", found)


def check_terminal(environ: Mapping[str, str]) -> Check:
    """Whether the screen can be shown well here; the verbs need none of it."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return Check("terminal", "ok", "none on stdin and stdout: the verbs work, the screen does not open")
    name, encoding = environ.get("TERM", ""), (sys.stdout.encoding or "").lower().replace("-", "")
    columns, lines = shutil.get_terminal_size()
    colours = "no colour" if environ.get("NO_COLOR") else _colours(name, environ)
    found = f"{name or 'TERM is not set'}, {columns}x{lines}, {sys.stdout.encoding}, {colours}"
    if name in {"dumb", ""}:
        return Check("terminal", "warn", found, "set TERM, for instance to xterm-256color: the screen does not open")
    if encoding != "utf8":
        advice = "set LC_ALL=C.UTF-8 for the real signs; without it the screen uses ASCII ones"
        return Check("terminal", "warn", found, advice)
    if columns < SMALLEST_SCREEN[0] or lines < SMALLEST_SCREEN[1]:
        return Check("terminal", "warn", found, "make the window at least 80x24")
    return Check("terminal", "ok", found)


def _colours(name: str, environ: Mapping[str, str]) -> str:
    if environ.get("COLORTERM") in {"truecolor", "24bit"}:
        return "true colour"
    return "256 colours" if "256color" in name else "16 colours"


def check_engine(home: Home, now: int) -> Check:
    """Whether an engine runs and shows signs of life."""
    try:
        pid = running_engine(home)
    except OSError as error:
        return Check("engine", "fail", f"{home.lock}: {error.strerror or error}", "see to the home first")
    if pid is None:
        return Check("engine", "ok", "none runs now")
    row = _ask(home, engines.engine)
    silence = 0 if row is None else now - row.heartbeat_at
    if silence > HEARTBEAT_MS:
        found = f"pid {pid} gave no sign of life for {silence // 1000} s"
        return Check("engine", "warn", found, f"look at {home.engine_log}; `kill {pid}` and start it again")
    return Check("engine", "ok", f"runs, pid {pid}")


def check_settings(config: Path | None, environ: Mapping[str, str]) -> tuple[Loaded | None, list[Check]]:
    """The settings where they can be used, and what is to be said of them."""
    try:
        loaded = load(config, environ)
    except ConfigError as error:
        advice = "mend the file; `gpuscale config check` tests it"
        return None, [Check("settings", "fail", str(problem), advice) for problem in error.problems]
    checks = [Check("settings", "warn", warning, "mend the name, if it is wrong") for warning in loaded.warnings]
    settings = loaded.settings
    if not settings.providers.clore.enabled and not settings.providers.ssh.hosts:
        advice = "set `enabled = true` in [providers.clore] or list your hosts as [[providers.ssh.hosts]]"
        checks.append(Check("providers", "warn", "none is set up: jobs would wait for ever", advice))
    if loaded.path.exists():
        return loaded, [Check("settings", "ok", str(loaded.path)), *checks]
    found = f"{loaded.path} is not there: defaults"
    if environ.get(CONFIG_VARIABLE) is None and config is None:
        checks.insert(0, Check("settings", "ok", found, "`gpuscale config init` makes one to edit"))
    return loaded, checks


def check_notices(home: Home, loaded: Loaded, environ: Mapping[str, str], now: int) -> Iterator[Check]:
    """Whether notices can be sent: the library, the addresses, and whether they took the last ones. Sends nothing."""
    urls = loaded.settings.notify.urls
    if not urls:
        yield Check("notices", "ok", "no addresses are set: nothing is sent")
        return
    if importlib.util.find_spec("apprise") is None:
        yield Check(
            "notices", "fail", "the library that sends them is not installed", "pip install 'gpuscale-tui[notify]'"
        )
    for address in addresses(loaded.settings, environ):
        if address.problem:
            yield Check("notices", "fail", f"{address.label}: {address.problem}", "mend `urls` in [notify]")
    file = Path(loaded.source("notify.urls"))
    written = any(not url.startswith(("file:", "env:")) for url in urls)
    if written and file.exists() and file.stat().st_mode & 0o077:
        found = f"{file} has addresses in it, which are secrets, and others can read it"
        yield Check("notices", "warn", found, f"chmod 600 {file}, or write file:PATH or env:NAME instead")
    deaf = _ask(home, notices.failing) or []
    for target in deaf:
        found = f"{target.label} takes none since {_utc(target.failing_since or now)}: {target.error}"
        yield Check("notices", "warn", found, "`gpuscale notify test` tries it now")
    if not deaf:
        yield Check("notices", "ok", f"{len(urls)} set; `gpuscale notify test` tries them")


async def check_network(home: Home, settings: Settings, environ: Mapping[str, str]) -> list[Check]:
    """The providers' accounts and the user's own hosts, all at once."""
    key = await asyncio.to_thread(our_key, home)
    looks: list[Awaitable[Check]] = []
    if settings.providers.clore.enabled:
        looks.append(ask_clore(home, settings, environ))
    if settings.checkpoints.s3 is not None:
        looks.append(_bounded("object storage", check_storage(settings), STORAGE_SEC))
    gate = asyncio.Semaphore(HOSTS_AT_ONCE)
    looks += [_check_host(home, host, gate) for host in settings.providers.ssh.hosts]
    return [key, *await asyncio.gather(*looks)]


async def ask_clore(home: Home, settings: Settings, environ: Mapping[str, str]) -> Check:
    """As `check_clore`, bounded in time."""
    return await _bounded("clore", check_clore(home, settings, environ), NETWORK_SEC)


async def ask_host(home: Home, host: SshHost) -> Check:
    """As `check_host`, bounded in time."""
    return await _bounded(f"host {host.name}", check_host(home, host), HOST_SEC + 5)


async def _bounded(name: str, look: Awaitable[Check], seconds: float) -> Check:
    try:
        async with asyncio.timeout(seconds):
            return await look
    except TimeoutError:
        return Check(name, "fail", f"no answer within {seconds:g} s", "look at the network between here and there")


def our_key(home: Home) -> Check:
    """Our own SSH key, made if there is none yet."""
    from gpuscale_tui.remote.errors import RemoteError
    from gpuscale_tui.remote.keys import ensure_client_key

    try:
        line = ensure_client_key(home.client_key)
    except (RemoteError, OSError) as error:
        return Check("ssh key", "fail", str(error), f"see to {home.client_key}")
    return Check("ssh key", "ok", line, "a host of your own needs this line in its authorized_keys")


async def check_clore(home: Home, settings: Settings, environ: Mapping[str, str]) -> Check:
    """Whether Clore takes the API key now."""
    from gpuscale_tui.providers.base import CredentialsRefused, ProviderError
    from gpuscale_tui.providers.registry import build_providers

    try:
        provider = build_providers(settings, state_dir=home.providers, environ=environ)["clore"]
    except FieldError as error:
        return Check("clore", "fail", str(error), "make a key on the marketplace's page for the API")
    try:
        rentals, balance = await provider.rentals(), await provider.balance()
    except CredentialsRefused as error:
        return Check("clore", "fail", str(error), "make a new key on the marketplace's page for the API")
    except ProviderError as error:
        return Check("clore", "fail", str(error), "look at the network, or try again later")
    finally:
        await provider.aclose()
    live = sum(not rental.ended for rental in rentals)
    found = f"{settings.providers.clore.base_url} takes the key; {live} live orders on the account"
    if balance is None:
        return Check("clore", "ok", f"{found}; what its wallet is worth is not known yet")
    found += f"; {format_usd(balance.micros)} in {balance.wallet}"
    if balance.micros <= parse_usd(settings.scaler.max_price_per_gpu):
        return Check("clore", "warn", found, "fill the wallet: it does not pay for one hour of one GPU")
    return Check("clore", "ok", found)


async def check_storage(settings: Settings) -> Check:
    """Whether the object storage for snapshots takes and gives back what is stored there."""
    from gpuscale_tui.engine.s3_places import look_at_storage

    found, wrong = await asyncio.to_thread(look_at_storage, settings)
    if wrong:
        return Check("object storage", "fail", wrong, "without it no snapshot can be stored; see [checkpoints]")
    return Check("object storage", "ok", f"{found} stores, lists, reads and removes")


async def _check_host(home: Home, host: SshHost, gate: asyncio.Semaphore) -> Check:
    async with gate:
        return await ask_host(home, host)


async def check_host(home: Home, host: SshHost) -> Check:
    """Whether a host of the user's own lets us in with our key."""
    from gpuscale_tui.remote.connection import connect
    from gpuscale_tui.remote.errors import AuthRefused, RemoteError

    name = f"host {host.name}"
    endpoint = Endpoint(host.host, host.port, host.user, key_file=host.key_file)
    try:
        machine = await connect(endpoint, client_key=home.client_key, timeout_sec=HOST_SEC)
    except AuthRefused as error:
        advice = "put the line of `ssh key` above into the host's authorized_keys, or set key_file"
        return Check(name, "fail", str(error), advice)
    except (RemoteError, ValueError) as error:
        return Check(name, "fail", str(error), "look at its address, its sshd and the network in between")
    await machine.close()
    return Check(name, "ok", f"{machine.where} lets us in")
