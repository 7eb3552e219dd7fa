"""The engine's life: its lock, its thread, its event loop, and the services that run in it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Self

from gpuscale_tui.engine import doorbell, view
from gpuscale_tui.engine.booter import Booter
from gpuscale_tui.engine.checkpoints import snapshot_store
from gpuscale_tui.engine.clearer import Clearer
from gpuscale_tui.engine.context import Bells, Context, Control
from gpuscale_tui.engine.expiry import Expiry
from gpuscale_tui.engine.gauger import Gauger
from gpuscale_tui.engine.keeper import Keeper
from gpuscale_tui.engine.leaser import Leaser
from gpuscale_tui.engine.links import Links
from gpuscale_tui.engine.lock import EngineLock
from gpuscale_tui.engine.notifier import Notifier
from gpuscale_tui.engine.packer import Packer
from gpuscale_tui.engine.placer import Placer
from gpuscale_tui.engine.planner import Planner
from gpuscale_tui.engine.reach import base_of
from gpuscale_tui.engine.reconciler import Reconciler
from gpuscale_tui.engine.rehearsal import Rehearser
from gpuscale_tui.engine.releaser import Releaser
from gpuscale_tui.engine.reloader import FileSources
from gpuscale_tui.engine.renter import Renter
from gpuscale_tui.engine.reporter import Reporter
from gpuscale_tui.engine.runner import Runner
from gpuscale_tui.engine.s3_places import both_archives
from gpuscale_tui.engine.service import guarded, serve
from gpuscale_tui.engine.steady import Steady
from gpuscale_tui.engine.tidier import Tidier
from gpuscale_tui.engine.treasurer import Treasurer
from gpuscale_tui.engine.wallet import Wallet
from gpuscale_tui.engine.watcher import Watcher
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.remote.keys import ensure_client_key
from gpuscale_tui.remote.site import over_ssh
from gpuscale_tui.store import engines
from gpuscale_tui.store.aio import AsyncDatabase, AsyncLogs
from gpuscale_tui.store.engines import Limits
from gpuscale_tui.store.home import Home

LOGGER = logging.getLogger("gpuscale.engine")
SERVICES = (
    "planner", "reconciler", "booter", "releaser", "placer", "runner", "tidier", "watcher", "packer", "treasurer",
    "notifier", "wallet", "expiry", "reporter", "gauger", "rehearser", "clearer",
    "keeper",
)  # fmt: skip
QUIET_SEC: Mapping[str, float] = {
    "planner": 0.3, "reconciler": 0.1, "releaser": 0.1, "runner": 0.1, "tidier": 0.5, "keeper": 0.1, "watcher": 1.0,
    "reporter": 2.0, "gauger": 1.0,
}  # fmt: skip
"""Least time between two looks of the services whose looks are dear."""
RESTING = frozenset({"planner"})
"""Services whose looks grow with the queue and may come later for that."""
START_SEC = 30.0
DATA_LOOK_SEC = 1.0
MARKET_CACHE_SEC = 60.0
END_SEC = 30.0


def utc_ms() -> int:
    """The wall clock as UTC milliseconds."""
    return time.time_ns() // 1_000_000


class Engine:
    """The engine of one home, on a thread and an event loop of its own. A context manager.

    Leaving the block without `stop` detaches: machines, jobs and orders stay as they are for the next engine. Nothing
    in here ever calls into the screen. `mode` (screen, autopilot, pipeline) is what others are told. `read_again`
    reads the settings once more, when somebody asks for that; without it they stay as they are.
    Raises EngineRunning, StoreError or FieldError when it cannot start.
    """

    def __init__(
        self,
        home: Home,
        settings: Settings,
        *,
        mode: str,
        environ: Mapping[str, str],
        exit_when_idle: bool = False,
        now: Callable[[], int] = utc_ms,
        read_again: Callable[[], Settings] | None = None,
    ) -> None:
        self._home = home
        self._settings = settings
        self._mode = mode
        self._environ = environ
        self._exit_when_idle = exit_when_idle
        self._now = now
        self._read_again = read_again
        self._lock = EngineLock(home)
        self._control = Control()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._started = threading.Event()
        self._ended = threading.Event()
        self.failure: BaseException | None = None
        """What ended the engine unasked, None after an orderly end."""

    def __enter__(self) -> Self:
        self._lock.acquire()
        self._thread.start()
        if not self._started.wait(START_SEC):
            self.detach()
            raise TimeoutError(f"the engine did not start within {START_SEC:g} s")
        if self.failure is not None:
            self._lock.release()
            raise self.failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    @property
    def alive(self) -> bool:
        """Whether the engine works."""
        return self._thread.is_alive() and not self._ended.is_set()

    @property
    def outcome(self) -> str:
        """How it ended, in words; empty while it works or after a failure."""
        return self._control.outcome

    def stop(self, *, at_once: bool) -> None:
        """Begin to end: after what runs has finished, or at once after saving. Returns immediately; see `wait`."""
        self._call(lambda: self._control.stop(at_once=at_once, now=self._now()))
        doorbell.ring(self._home)

    def detach(self) -> None:
        """End now and leave everything as it is: machines stay rented, jobs go on running on them."""
        self._call(self._cancel)
        if self._thread.ident is not None:
            self._thread.join(END_SEC)
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the engine's end; False when it still works after `timeout` seconds."""
        return self._ended.wait(timeout)

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _call(self, action: Callable[[], None]) -> None:
        if self._loop is not None and not self._ended.is_set():
            with contextlib.suppress(RuntimeError):  # the loop has closed in the meantime: nothing is left to tell it
                self._loop.call_soon_threadsafe(action)

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except asyncio.CancelledError:
            LOGGER.info("detached")
        except BaseException as error:
            self.failure = _innermost(error)
            LOGGER.error("the engine ended: %s", self.failure, exc_info=error)  # noqa: TRY400
        finally:
            self._lock.release()  # also when nobody has left the block yet: another engine may begin
            self._ended.set()
            self._started.set()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = Steady(self._now, self._loop.time)
        self._main = asyncio.current_task()
        async with open_context(
            self._home, self._settings, self._control, mode=self._mode, environ=self._environ, now=self._now,
            read_again=self._read_again,
        ) as context:  # fmt: skip
            self._started.set()
            await work(context, exit_when_idle=self._exit_when_idle)


def _innermost(error: BaseException) -> BaseException:
    """The first real error inside nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextlib.asynccontextmanager
async def open_context(
    home: Home,
    settings: Settings,
    control: Control,
    *,
    mode: str,
    environ: Mapping[str, str],
    now: Callable[[], int],
    read_again: Callable[[], Settings] | None = None,
) -> AsyncIterator[Context]:
    """Open everything that an engine works with and take the home over; close it all at the end."""
    home.ensure()
    limits = Limits(view.cap(settings), settings.scaler.max_workers)
    cache_sec = min(MARKET_CACHE_SEC, 2 * settings.scaler.poll_interval_sec)
    sources = FileSources(read_again or (lambda: settings), home, environ, cache_sec)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(sources.aclose)
        providers = sources.providers(settings)
        db = await stack.enter_async_context(await AsyncDatabase.open(home.database))
        logs = await stack.enter_async_context(await AsyncLogs.open(home.logs))
        public_key = await asyncio.to_thread(ensure_client_key, home.client_key)
        installation = await db.write(engines.installation)
        epoch = db.epoch = await db.write(engines.begin_epoch, os.getpid(), mode, limits, now())
        context = Context(
            home=home,
            settings=settings,
            db=db,
            logs=logs,
            snapshots=snapshot_store(home, settings),
            providers=providers,
            epoch=epoch,
            base=base_of(installation),
            public_key=public_key,
            now=now,
            bells=Bells((*SERVICES, "data")),
            control=control,
            connect=over_ssh(home.client_key),
            new_token=partial(secrets.token_hex, 16),
            sources=sources if read_again is not None else None,
            objects=both_archives(settings, snapshot_store(home, settings), installation),
        )
        try:
            yield context
        finally:
            note = control.outcome or "detached; machines and jobs stay as they are"
            await db.write(engines.end_epoch, note, now(), epoch)


async def work(context: Context, *, exit_when_idle: bool) -> None:
    """Run all services until the keeper says that nothing is left to do."""
    links = Links(context)
    tidier = Tidier(context, links)
    notifier = Notifier(context)
    reporter = Reporter(context)
    rehearser = Rehearser(context)
    try:
        async with asyncio.TaskGroup() as tasks:
            renter = Renter(context, tasks)
            runner = Runner(context, links, tasks, tidier.left)
            leaser = Leaser(context, links, tasks)
            services = (
                Planner(context, renter),
                Reconciler(context, renter),
                Booter(context, links, tasks, leaser),
                Releaser(context),
                Placer(context, links, runner.take),
                runner,
                tidier,
                Watcher(context, links, tasks, leaser),
                Packer(context),
                Clearer(context),
                Treasurer(context),
                Wallet(context),
                Expiry(context),
                reporter,
                Gauger(context, links, tasks),
                rehearser,
                notifier,
                Keeper(context, exit_when_idle=exit_when_idle),
            )
            with doorbell.listening(context.home, context.bells.ring):
                for service in services:
                    quiet = QUIET_SEC.get(service.name, 0.0)
                    serving = serve(context, service, quiet_sec=quiet, rests=service.name in RESTING)
                    tasks.create_task(serving, name=service.name)
                tasks.create_task(_notice_changes(context), name="notice changes")
                await _until_done(context.control)
    except* _Done:
        LOGGER.info("%s", context.control.outcome)
        await guarded(context, reporter.name, reporter.last_look)
        await guarded(context, rehearser.name, rehearser.last_look)
        await notifier.last_look()
    finally:
        await notifier.close()
        await tidier.last_look()
        await links.aclose()


async def _until_done(control: Control) -> None:
    """Raise _Done, which cancels every service, once nothing is left to do."""
    await control.done.wait()
    raise _Done


class _Done(Exception):
    """The engine has nothing left to do."""


async def _notice_changes(context: Context) -> None:
    """Wake everybody when somebody else has written to the store, should the doorbell not have been heard."""
    seen = await context.db.outside_version()
    while True:
        await asyncio.sleep(DATA_LOOK_SEC)
        version = await context.db.outside_version()
        if version != seen:
            seen = version
            context.bells.ring("planner", "placer", "runner", "rehearser", "keeper")
