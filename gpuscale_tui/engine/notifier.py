"""Notifying: what waits in the store goes out, several things as one message, tried again while that makes sense.

Each message is sent by a process of its own (`messenger`), so that a server that hangs holds up nobody; each address
moves along the notices by itself. An address that fails is visible: a warning when it begins, in `gpuscale status` and
`gpuscale doctor` as long as it lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gpuscale_tui.engine.addresses import Address, addresses
from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.redaction import Redactor, known_secrets
from gpuscale_tui.engine.service import guarded
from gpuscale_tui.model.notices import NoticeKind
from gpuscale_tui.model.plain import clean
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.store import notices
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.notices import Notice, Target

LOOK_SEC = 2.0
NO_ADDRESS_LOOK_SEC = 600.0
GATHER_SEC = 2.0
"""What comes within this time after the first notice goes out together with it."""
SEND_SEC = 20.0
LAST_LOOK_SEC = 10.0
CLOSE_SEC = 1.5
FIRST_PAUSE_SEC = 15.0
LONGEST_PAUSE_SEC = 3600.0
GIVE_UP_SEC = 86_400.0
"""News older than a day is none: an address that came back is not told of it."""
MOST_AT_ONCE = 500
LINES_A_KIND = 10
LONGEST_LINE = 400
PRUNE_SEC = 3600.0

_PASSED_ON = re.compile(
    r"PATH|LANG|LC_\w+|TZ|HOME|TMPDIR|PYTHON(?:PATH|HOME|USERBASE)|SSL_CERT_(?:FILE|DIR)|(?:REQUESTS|CURL)_CA_BUNDLE"
    r"|(?:https?|all|no)_proxy",
    re.IGNORECASE,
)
_MENTION = re.compile(r"(?<!\w)@(?=\w)|<(?=[!@#/a-z])", re.IGNORECASE)
_LINK = re.compile(r"\b([a-z][a-z0-9+.-]{1,15}):(?=//)", re.IGNORECASE)

HEADINGS: Mapping[str, tuple[str, str]] = {
    NoticeKind.BUDGET: ("budget notice", "budget notices"),
    NoticeKind.BALANCE: ("balance notice", "balance notices"),
    NoticeKind.ORPHAN: ("orphan", "orphans"),
    NoticeKind.BILL: ("bill notice", "bill notices"),
    NoticeKind.JOB_FAILED: ("job failed", "jobs failed"),
    NoticeKind.MACHINE_LOST: ("machine lost", "machines lost"),
    NoticeKind.STALLED: ("stalled job", "stalled jobs"),
    NoticeKind.LEASE: ("lease notice", "lease notices"),
    NoticeKind.BREAKER: ("breaker", "breakers"),
    NoticeKind.JOB_DONE: ("job done", "jobs done"),
}
"""What a notice of each kind is called, one and many; money first."""


@dataclass(frozen=True, slots=True)
class Message:
    """What an address is told."""

    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a message: `error` is empty when it was taken."""

    error: str = ""


Send = Callable[[str, Message, bool], Awaitable[Result]]
"""Sends a message to a URL; the flag lets names lead into private networks. Bounded in time, never raises."""


def compose(waiting: Sequence[Notice], redact: Redactor) -> Message:
    """One message of everything that waits, grouped by kind; nothing in it is a link, a mention or a secret."""
    counts = Counter(notice.kind for notice in waiting)
    kinds = sorted(counts, key=lambda kind: list(HEADINGS).index(kind) if kind in HEADINGS else len(HEADINGS))
    names = [f"{counts[kind]} {_heading(kind, counts[kind])}" for kind in kinds]
    lines: list[str] = []
    for kind, name in zip(kinds, names, strict=True):
        texts = [notice.text for notice in waiting if notice.kind == kind]
        lines += [f"{name}:"] if len(waiting) > 1 else []
        lines += [harmless(redact(clean(redact(text)))) for text in texts[:LINES_A_KIND]]
        lines += [f"and {len(texts) - LINES_A_KIND} more"] if len(texts) > LINES_A_KIND else []
    title = _heading(kinds[0], 1) if len(waiting) == 1 else ", ".join(names)
    return Message(f"gpuscale: {title}", "\n".join(lines))


def _heading(kind: str, count: int) -> str:
    one, many = HEADINGS.get(kind, (kind, kind))
    return one if count == 1 else many


def harmless(text: str) -> str:
    """One line for a chat or a mail: plain, calls nobody by name, leads nowhere, and is not endless."""
    line = _LINK.sub(r"\1: ", _MENTION.sub(lambda match: match[0] + " ", clean(text)))
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 3] + "..."


async def send_by_messenger(url: str, message: Message, private: bool) -> Result:
    """See `Send`: by a process that is ended when it takes too long, or when nobody waits for it any more."""
    order = json.dumps({"url": url, "title": message.title, "body": message.body, "private": private}).encode()
    sender = _Sender(order, SEND_SEC)
    sending = asyncio.create_task(asyncio.to_thread(sender.run))
    try:
        return await asyncio.shield(sending)
    finally:
        sender.end()
        await asyncio.wait([sending])


class _Sender:
    """One run of the messenger. `run` blocks, at most for `seconds`; `end` ends it from another thread."""

    def __init__(self, order: bytes, seconds: float) -> None:
        self._order = order
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._over = False

    def run(self) -> Result:
        """Send; what came of it."""
        try:
            with self._begin() as process:
                output, _ = process.communicate(self._order, timeout=self._seconds)
            return _read_result(output)
        except subprocess.TimeoutExpired:
            return Result(f"no answer within {self._seconds:g} s")
        except (OSError, ValueError) as error:
            return Result(f"the program that sends failed: {error}")
        finally:
            self.end()

    @contextlib.contextmanager
    def _begin(self) -> Iterator[subprocess.Popen[bytes]]:
        environ = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
        with self._lock:
            if self._over:
                raise OSError("it is over")
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gpuscale_tui.engine.messenger"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, env={**environ, "NETRC": os.devnull}, start_new_session=True,
            )  # fmt: skip
        with self._process:
            try:
                yield self._process
            finally:
                self._process.kill()

    def end(self) -> None:
        """End it now. Harmless to repeat."""
        with self._lock:
            self._over = True
            if self._process is not None:
                self._process.kill()


def _read_result(output: bytes) -> Result:
    found = json.loads(output or b"null")
    if not isinstance(found, dict):
        return Result("the program that sends ended without a result")
    return Result() if found.get("ok") is True else Result(str(found.get("error") or "it was not accepted"))


class Notifier:
    """Sends what waits, each address at its own pace."""

    name = "notifier"

    def __init__(self, context: Context, send: Send = send_by_messenger) -> None:
        self._context = context
        self._send = send
        self._pruned_at = 0
        self._told: dict[str, str] = {}
        self._delivering: set[asyncio.Task[None]] = set()

    async def tick(self) -> float:
        """See `Service.tick`."""
        return await self._look(gather_sec=GATHER_SEC)

    async def last_look(self) -> None:
        """Send what waits before the engine ends, for a moment at most; what is left goes out at the next start."""
        await guarded(self._context, self.name, self._look_briefly)

    async def close(self) -> None:
        """Let what is under way end, for a moment: what was taken and not noted would be sent again."""
        under_way = set(self._delivering)
        if under_way:
            await asyncio.wait(under_way, timeout=CLOSE_SEC)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _look_briefly(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_LOOK_SEC):
                if self._delivering:
                    await asyncio.wait(set(self._delivering))
                await self._look(gather_sec=0)

    async def _look(self, *, gather_sec: float) -> float:
        context = self._context
        if not context.settings.notify.urls:
            await self._prune(())
            return NO_ADDRESS_LOOK_SEC
        known = await asyncio.to_thread(addresses, context.settings, os.environ)
        usable = {address.digest: address for address in known if not address.problem}
        await self._tell_problems(known)
        targets = await self._targets(usable)
        async with asyncio.TaskGroup() as group:
            for digest, address in usable.items():
                group.create_task(self._serve(address, targets[digest], gather_sec), name=address.label)
        await self._prune(tuple(usable))
        return LOOK_SEC

    async def _tell_problems(self, known: Sequence[Address]) -> None:
        """An address that cannot even be read is told once."""
        for address in known:
            if address.problem and self._told.get(address.label) != address.problem:
                self._told[address.label] = address.problem
                await self._context.warn(f"{address.label}: {address.problem}; no notices go there")

    async def _targets(self, usable: Mapping[str, Address]) -> dict[str, Target]:
        context = self._context
        targets = await context.db.read(notices.targets)
        for digest in usable.keys() - targets.keys():
            await context.db.write(notices.register, digest, usable[digest].label)
        return targets if usable.keys() <= targets.keys() else await context.db.read(notices.targets)

    async def _serve(self, address: Address, target: Target, gather_sec: float) -> None:
        """Send what waits for one address, if its time has come."""
        context, now = self._context, self._context.now()
        if now < target.next_at and (gather_sec or target.failures):
            return
        rows = await context.db.read(notices.waiting, target.upto, MOST_AT_ONCE)
        if not rows:
            return
        wanted = [row for row in rows if row.kind in context.settings.notify.on]
        fresh = [row for row in wanted if now - row.at < GIVE_UP_SEC * 1000]
        if len(fresh) < len(wanted):
            await context.warn(f"{address.label}: {len(wanted) - len(fresh)} notices could not be sent for a day")
            await context.db.write(notices.passed, address.digest, max(row.id for row in wanted if row not in fresh))
        if not fresh:
            await context.db.write(notices.passed, address.digest, rows[-1].id)
        elif now - fresh[0].at >= gather_sec * 1000:
            task = asyncio.create_task(self._deliver(address, target, fresh, rows[-1].id), name=address.label)
            self._delivering.add(task)
            task.add_done_callback(self._delivering.discard)
            await asyncio.shield(task)

    async def _deliver(self, address: Address, target: Target, fresh: Sequence[Notice], upto: int) -> None:
        context = self._context
        settings = context.settings.notify
        redact = await asyncio.to_thread(_redactor, context, [row.job_id for row in fresh if row.job_id is not None])
        result = await self._send(address.url, compose(fresh, redact), settings.private_network)
        now = context.now()
        if not result.error:
            next_at = now + int(settings.min_interval_sec * 1000)
            await context.db.write(notices.sent, address.digest, upto, now, next_at)
            if target.failures:
                await context.warn(f"{address.label} takes notices again")
            return
        error = clean(redact(result.error))[:LONGEST_LINE]
        pause = max(min(FIRST_PAUSE_SEC * 2.0**target.failures, LONGEST_PAUSE_SEC), settings.min_interval_sec)
        await context.db.write(notices.failed, address.digest, error, now, now + int(pause * 1000))
        if not target.failures:
            await context.warn(f"{address.label} takes no notices: {error}; tried again for a day")

    async def _prune(self, in_use: Sequence[str]) -> None:
        now = self._context.now()
        if now - self._pruned_at > PRUNE_SEC * 1000:
            self._pruned_at = now
            await self._context.db.write(notices.prune, now, in_use)


def _redactor(context: Context, jobs: Sequence[int]) -> Redactor:
    return redactor(context.home, context.settings, os.environ, jobs)


def redactor(home: Home, settings: Settings, environ: Mapping[str, str], jobs: Sequence[int] = ()) -> Redactor:
    """Takes out every secret that a text about these jobs could hold. Blocking file I/O."""
    urls = [address.url for address in addresses(settings, environ) if address.url]
    return Redactor(known_secrets(home, settings, environ, urls, set(jobs)))


async def try_all(
    home: Home, settings: Settings, environ: Mapping[str, str], send: Send = send_by_messenger
) -> list[tuple[Address, Result]]:
    """Send one message to every address at once, and what came of each; for `gpuscale notify test`."""
    known = addresses(settings, environ)
    redact = redactor(home, settings, environ)
    message = Message("gpuscale: a test", "Notices of gpuscale arrive here.")

    async def one(address: Address) -> Result:
        if address.problem:
            return Result(address.problem)
        result = await send(address.url, message, settings.notify.private_network)
        return Result(clean(redact(result.error))[:LONGEST_LINE])

    return list(zip(known, await asyncio.gather(*map(one, known)), strict=True))
