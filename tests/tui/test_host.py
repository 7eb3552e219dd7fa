"""The engine's life around the screen: begun once, beside another one, or with a reason why not."""

from __future__ import annotations

import threading
from pathlib import Path

from gpuscale_tui.engine.lock import EngineRunning
from gpuscale_tui.model.errors import FieldError
from gpuscale_tui.store.home import Home
from gpuscale_tui.tui.host import EngineHost


class Engine:
    """An engine that only lives and dies."""

    def __init__(self) -> None:
        self.alive = True
        self.failure: BaseException | None = None

    def stop(self, *, at_once: bool) -> None:
        """Dies at once."""
        self.alive = False

    def detach(self) -> None:
        """Dies at once."""
        self.alive = False

    def wait(self, timeout: float | None) -> bool:
        """Whether it is dead."""
        return not self.alive


async def test_an_engine_is_begun_once_and_again_after_its_end() -> None:
    """A second key press while it starts or lives starts no second one."""
    started: list[Engine] = []
    gate = threading.Event()

    def start() -> Engine:
        gate.wait(60)
        started.append(Engine())
        return started[-1]

    host = EngineHost(start)
    host.begin()
    host.begin()
    assert host.state(None).kind == "starting"
    gate.set()
    await host.begun()
    host.begin()
    assert len(started) == 1
    assert host.state(123).kind == "inside"
    started[0].stop(at_once=True)
    assert host.state(None).kind == "none"
    assert host.state(None).note == ""
    host.begin()
    await host.begun()
    assert len(started) == 2


async def test_beside_another_engine_the_screen_attaches(tmp_path: Path) -> None:
    """That the home is held is no fault; who holds it is told."""

    def start() -> Engine:
        raise EngineRunning(Home(tmp_path), 4711)

    host = EngineHost(start)
    host.begin()
    await host.begun()
    assert (host.state(4711).kind, host.state(4711).pid, host.state(None).note) == ("attached", 4711, "")


async def test_why_there_is_no_engine_is_told() -> None:
    """A wrong setting at the start, and a failure later."""
    dead = Engine()

    def refuse() -> Engine:
        raise FieldError("providers.clore.api_key_file", "/x", "a file of mode 0600")

    host = EngineHost(refuse)
    host.begin()
    await host.begun()
    assert "did not start: providers.clore.api_key_file" in host.state(None).note
    host = EngineHost(lambda: dead)
    host.begin()
    await host.begun()
    dead.alive, dead.failure = False, OSError("disk full")
    assert host.state(None).note == "the engine failed: disk full"
