"""The set-up: a few questions that end in a checked account, checked hosts or the demonstration.

It appears by itself where nothing is set up and nothing was ever run, and comes back by its key. Nothing is written
before its last answer, and then all of it in one step that can be undone: it can be left anywhere.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gpuscale_tui.config import KEY_VARIABLE, trouble_with, value_of
from gpuscale_tui.config_keys import API_KEY, HOSTS, Key, keys_of, tables_of
from gpuscale_tui.model.settings import Settings, SshHost
from gpuscale_tui.rights import private_opener
from gpuscale_tui.tui.format import clean
from gpuscale_tui.tui.look import Line, wrap
from gpuscale_tui.tui.setting_rows import ValueWrong, as_typed, short, typed
from gpuscale_tui.tui.widgets.change import ChangeValue
from gpuscale_tui.tui.widgets.confirm import Question

if TYPE_CHECKING:
    from textual.screen import ModalScreen

    from gpuscale_tui.engine.doctor import Check
    from gpuscale_tui.tui.app import GpuscaleApp

T = TypeVar("T")
CAP = "scaler.max_hourly_budget"
GPU = "scaler.gpu_type"
FIRST_CAP = 2.0
"""US dollars per hour that are proposed: four machines of the kind most asked for."""
KEY_FILE = "clore.key"
WHAT = (
    "gpuscale rents GPUs when your queue of jobs needs them, and gives them back when they idle.",
    "It never spends more per hour than the cap you set.",
)
_KEYS: Mapping[str, Key] = {key.dotted: key for key in keys_of(Settings)}
_HOST: Mapping[str, Key] = tables_of(SshHost).keys


class _Left(Exception):
    """The set-up was left."""


@dataclass(frozen=True, slots=True)
class Checks:
    """What asks the outside, each in a thread of its own and bounded in time; tests put others in their place."""

    clore: Callable[[Settings, Mapping[str, str]], Awaitable[Check]]
    host: Callable[[SshHost], Awaitable[Check]]
    our_key: Callable[[], Awaitable[str]]


def real_checks(app: GpuscaleApp) -> Checks:
    """The checks of `gpuscale doctor`."""

    async def clore(settings: Settings, environ: Mapping[str, str]) -> Check:
        from gpuscale_tui.engine import doctor

        return await _aside(lambda: doctor.ask_clore(app.home, settings, environ))

    async def host(asked: SshHost) -> Check:
        from gpuscale_tui.engine import doctor

        return await _aside(lambda: doctor.ask_host(app.home, asked))

    async def our_key() -> str:
        from gpuscale_tui.engine import doctor

        return (await asyncio.to_thread(doctor.our_key, app.home)).found

    return Checks(clore, host, our_key)


async def _aside(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run something on an event loop of its own in a thread: what it imports and asks does not hold the screen up."""
    return await asyncio.to_thread(lambda: asyncio.run(work()))


def is_first_start(app: GpuscaleApp) -> bool:
    """Whether nothing is set up and nothing was ever run here."""
    files, status = app.files, app.snapshot.status
    if files is None or app.readonly or status is None:
        return False
    used = any(status.jobs.values()) or any(status.workers.values())
    return not (used or files.config.exists() or files.settings.exists())


class Guide:
    """One walk through the set-up."""

    def __init__(self, app: GpuscaleApp, checks: Checks | None = None) -> None:
        self._app = app
        self._checks = checks or real_checks(app)

    async def run(self) -> None:
        """Ask until the end or until it is left."""
        try:
            await self._begin()
        except _Left:
            self._app.notify("Nothing was changed. F2 comes back to the set-up.", timeout=4)

    async def _begin(self) -> None:
        answers: list[tuple[str, str, Callable[[], Awaitable[None]] | None]] = [
            ("d", "try it: a demonstration that needs no account and no money", self._demo),
            ("c", "set up Clore.ai, a marketplace of GPUs, with your API key", self._clore),
            ("s", "set up machines of your own, reached over SSH", self._host),
            ("l", "look round without anything", None),
        ]
        chosen = await self._ask(Question("Welcome to gpuscale", [*_spaced(WHAT), "How do you want to begin?"],
                                          answers, otherwise=None))  # fmt: skip
        if chosen is None:
            raise _Left
        await chosen()

    async def _ask(self, question: ModalScreen[T]) -> T | None:
        return await self._app.push_screen(question, wait_for_dismiss=True)

    async def _line(
        self, title: str, text: list[str], value: str, check: Callable[[str], object], *, secret: bool = False
    ) -> str:
        given = await self._ask(ChangeValue(title, text, value, check, secret=secret))
        if given is None:
            raise _Left
        return given.strip()

    async def _demo(self) -> None:
        """The screen is left; the command line goes on as `gpuscale demo` does, in a home of its own."""
        self._app.begin_demo()

    # Clore

    async def _clore(self) -> None:
        key = await self._checked_key()
        cap = await self._line(
            "Your cap", ["The most that all machines together may cost, in US dollars per hour. It is never exceeded.",
            f"Allowed: {_KEYS[CAP].allowed}."], f"{FIRST_CAP:g}", lambda text: typed(_KEYS[CAP], text),
        )  # fmt: skip
        present = as_typed(_KEYS[GPU], value_of(self._app.settings, GPU))
        gpu = await self._line(
            "Your GPU", ["The GPU of jobs that name none.", f"Allowed: {_KEYS[GPU].allowed}."], present,
            lambda text: typed(_KEYS[GPU], text),
        )  # fmt: skip
        changes: dict[str, object] = {
            "providers.clore.enabled": True, CAP: typed(_KEYS[CAP], cap), GPU: typed(_KEYS[GPU], gpu)
        }  # fmt: skip
        lines = [f"Rent on Clore.ai: {gpu}, at most ${float(cap):.2f} per hour over all machines."]
        if key:
            lines.append(f"The API key goes to {short(self._key_file)}, which only you can read.")
        await self._keep(changes, lines, key)

    @property
    def _key_file(self) -> Path:
        assert self._app.files is not None
        return self._app.files.settings.with_name(KEY_FILE)

    async def _checked_key(self) -> str:
        """An API key that the marketplace takes, or that the user wants to keep unchecked; empty: the environment's."""
        assert self._app.files is not None
        environ = self._app.files.environ
        if environ.get(KEY_VARIABLE):
            return await self._try_key("", environ)
        while True:
            about = "Make one on clore.ai, on the page for the API. It is kept in a file that only you read."
            key = await self._line("Your API key", [about], "", _check_key, secret=True)
            kept = await self._try_key(key, {**environ, KEY_VARIABLE: key})
            if kept or not key:
                return kept

    async def _try_key(self, key: str, environ: Mapping[str, str]) -> str:
        """The key when it is taken or kept all the same, else nothing: it is asked for again."""
        settings = self._app.settings
        clore = replace(settings.providers.clore, enabled=True)
        asked = replace(settings, providers=replace(settings.providers, clore=clore))
        check = await self._wait("Asking Clore.ai", ["Whether it takes the key. This may take some seconds."],
                                 self._checks.clore(asked, environ))  # fmt: skip
        if check.state != "fail":
            self._app.notify(clean(check.found), timeout=6, markup=False)
            return key
        if not key:
            raise_it = await self._ask(Question("Clore.ai", [clean(check.found), clean(check.advice)],
                                                [("k", "keep it all the same", True), ("l", "leave the set-up", False)],
                                                otherwise=False))  # fmt: skip
            if not raise_it:
                raise _Left
            return key
        again = await self._ask(Question(
            "Clore.ai", [clean(check.found).replace(key, "[the key]"), clean(check.advice)],
            [("t", "type it again", "again"), ("k", "keep it unchecked", "keep"), ("l", "leave the set-up", "")],
            otherwise="",
        ))  # fmt: skip
        if not again:
            raise _Left
        return key if again == "keep" else ""

    # hosts

    async def _host(self) -> None:
        hosts = [*self._app.settings.providers.ssh.hosts]
        known = len(hosts)
        while True:
            hosts.append(await self._one_host({host.name for host in hosts}))
            more = await self._ask(Question(f"{hosts[-1].name} is noted", ["Is there another one?"],
                                            [("n", "no, that is all", False), ("a", "another one", True)],
                                            otherwise=False))  # fmt: skip
            if not more:
                break
        rows = [_plain(host) for host in hosts]
        names = ", ".join(host.name for host in hosts[known:])
        await self._keep({HOSTS: rows}, [f"Jobs may run on {names}."])

    async def _one_host(self, taken: set[str]) -> SshHost:
        texts: dict[str, str] = {}
        for name, text in (
            ("host", "The machine's name or address."), ("user", "Who logs in there."), ("port", "Its SSH port."),
            ("name", "How it is called here."), ("gpu_type", "Its GPU, or none."), ("gpu_count", "How many it has."),
        ):  # fmt: skip
            if name == "gpu_count" and texts["gpu_type"] == "none":
                texts[name] = "0"
                continue
            key = _HOST[name]
            check = _free(key, taken) if name == "name" else lambda words, key=key: typed(key, words)
            texts[name] = await self._line(
                f"A machine of your own: {name}", [text, f"Allowed: {key.allowed}."], _proposed(name, texts), check
            )
        host = SshHost(**{name: typed(_HOST[name], text) for name, text in texts.items()})  # type: ignore[arg-type]
        return await self._try_host(host)

    async def _try_host(self, host: SshHost) -> SshHost:
        line = await self._checks.our_key()
        text: list[Line | str] = [
            f"Put this line into ~/.ssh/authorized_keys of {host.user} on {host.host}:", [], clean(line), [],
        ]  # fmt: skip
        while True:
            chosen = await self._ask(Question(
                f"Our key for {host.name}", text,
                [("c", "it is there: check it now", "check"), ("y", "copy the line", "copy"),
                 ("k", "keep the machine unchecked", "keep"), ("l", "leave the set-up", "")], otherwise="",
            ))  # fmt: skip
            if chosen == "copy":
                self._app.copy(line)
                continue
            if chosen == "check":
                check = await self._wait(f"Asking {host.name}", ["Whether it lets us in."], self._checks.host(host))
                if check.state == "fail":
                    wrong = f"{self._app.look.glyphs.states['failed']} {clean(check.found)}"
                    text = [*text[:4], *([(f" {each}", "bad")] for each in wrap(wrong, 66)), ()]
                    continue
                self._app.notify(clean(check.found), timeout=5, markup=False)
            if not chosen:
                raise _Left
            return host

    # ends

    async def _wait(self, title: str, text: list[str], work: Awaitable[T]) -> T:
        """Show what is waited for; Escape leaves the set-up, and what was asked comes to its end by itself."""
        waiting: Question[None] = Question(title, text, [("l", "leave the set-up", None)], otherwise=None)
        task = asyncio.ensure_future(work)
        left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._app.push_screen(waiting, left.set_result)  # it is there before it can go
        either: set[asyncio.Future[Any]] = {task, left}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if left.done():
            task.cancel()
            raise _Left
        await waiting.dismiss(None)
        return task.result()

    async def _keep(self, changes: Mapping[str, object], lines: list[str], key: str = "") -> None:
        """Ask once more, then write everything."""
        app = self._app
        assert app.files is not None
        text = [*lines, f"This is written to {short(app.files.settings)}; the settings screen (8) changes it."]
        sure = await self._ask(Question("Is that right?", _spaced(text), [("y", "yes, write it", True),
                                        ("n", "no, leave everything as it is", False)], otherwise=False))  # fmt: skip
        if not sure:
            raise _Left
        wrong = await self._write(dict(changes), key)
        if wrong:
            app.notify(wrong, severity="error", timeout=10, markup=False)
        else:
            app.notify("Ready. n writes your first job.", timeout=8)

    async def _write(self, changes: dict[str, object], key: str) -> str:
        if key:
            changes[API_KEY] = str(self._key_file)
            try:
                await asyncio.to_thread(write_key, self._key_file, key)
            except OSError as error:
                return f"the key was not written: {error}"
        wrong = await self._app.change_settings(changes, "The set-up is written")
        if wrong and key:
            await asyncio.to_thread(self._key_file.unlink, missing_ok=True)
        return wrong


def write_key(path: Path, key: str) -> None:
    """Write a secret to a file of its own, whole, readable by its user alone. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "x", encoding="ascii", opener=private_opener) as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(f"{key}\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _check_key(text: str) -> None:
    if not text.strip():
        raise ValueWrong("allowed is the key as the marketplace shows it")
    if not text.strip().isascii() or len(text.split()) > 1 or len(text) > 512:
        raise ValueWrong("allowed is one word of letters and signs: the key and nothing else")


def _free(key: Key, taken: set[str]) -> Callable[[str], object]:
    """A check that a name is right and not another host's."""

    def check(text: str) -> object:
        if text.strip() in taken:
            raise ValueWrong("allowed is a name that no other host has")
        return typed(key, text)

    return check


def _proposed(name: str, texts: Mapping[str, str]) -> str:
    if name == "name":
        short = texts["host"] if texts["host"].replace(".", "").isdigit() else texts["host"].partition(".")[0]
        return short if not trouble_with(_HOST["name"], short) else "host1"
    if name == "gpu_count":
        return "1"
    key = _HOST[name]
    return "" if key.required else as_typed(key, key.default)


def _plain(host: SshHost) -> dict[str, object]:
    """A host as its table in the file, without what is as by default."""
    return {
        name: getattr(host, name)
        for name, key in _HOST.items()
        if key.required or getattr(host, name) != key.default
    }  # fmt: skip


def _spaced(texts: tuple[str, ...] | list[str]) -> list[Line | str]:
    """Texts with an empty line after each."""
    return [part for text in texts for part in (text, ())]
