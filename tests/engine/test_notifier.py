"""Notices: what waits goes out as one message, rate-limited, tried again, without secrets; and never in the way."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.engine import messenger, notifier
from gpuscale_tui.engine.ending import AttemptEnd, Bill, attempt_over, machine_gone
from gpuscale_tui.engine.engine import Engine, utc_ms
from gpuscale_tui.engine.notifier import compose
from gpuscale_tui.engine.redaction import MARK, Redactor, parts_of
from gpuscale_tui.model.notices import NoticeKind
from gpuscale_tui.model.settings import NotifyConfig, Settings
from gpuscale_tui.model.states import Cause
from gpuscale_tui.store import engines, notices, workers
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.notices import Notice
from tests.engine.conftest import Rig, make_rig, until
from tests.store.support import Bench

EVERY = tuple(kind.value for kind in NoticeKind)
PASSWORD = "CANARY-password-of-the-address"


@dataclass
class Inbox:
    """A web server that takes notices, or does not."""

    port: int = 0
    status: int = 200
    silent: threading.Event = field(default_factory=threading.Event)
    refused: list[dict[str, str]] = field(default_factory=list)
    taken: list[dict[str, str]] = field(default_factory=list)
    hanging: int = 0

    def url(self, path: str = "/") -> str:
        return f"json://someone:{PASSWORD}@127.0.0.1:{self.port}{path}"


@contextmanager
def inbox() -> Iterator[Inbox]:
    box = Inbox()
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if box.silent.is_set():
                box.hanging += 1
                over.wait(120)
                return
            status = 500 if self.path == "/refused" else box.status
            (box.taken if status == 200 else box.refused).append(message)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    box.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield box
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def box() -> Iterator[Inbox]:
    with inbox() as opened:
        yield opened


@pytest.fixture
def rig(tmp_path: Path, box: Inbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A home without machines, whose notices go to the inbox, all kinds, as fast as may be."""
    monkeypatch.setattr(notifier, "FIRST_PAUSE_SEC", 0.2)
    monkeypatch.setattr(notifier, "LOOK_SEC", 0.05)
    monkeypatch.setattr(notifier, "GATHER_SEC", 0.2)
    settings = Settings(notify=NotifyConfig(urls=(box.url(),), on=EVERY, min_interval_sec=0.2))
    made = make_rig(tmp_path, settings, dict(os.environ), None)
    yield made
    made.db.close()


def say(rig: Rig, *texts: str, kind: NoticeKind = NoticeKind.BUDGET, at: int | None = None) -> None:
    """Raise notices, all in one moment."""
    raise_all(rig, [(kind, text, "") for text in texts], at)


def raise_all(rig: Rig, wanted: Sequence[tuple[NoticeKind, str, str]], at: int | None = None) -> None:
    """The same, of any kinds and keys."""

    def all_of_them(connection: Any) -> None:
        for kind, text, key in wanted:
            notices.add(connection, at or utc_ms(), kind, text, key=key)

    rig.db.write(all_of_them)


def known(rig: Rig) -> bool:
    """Whether the engine has taken its addresses up: what is said from then on is sent."""
    return bool(rig.db.read(notices.targets))


@contextmanager
def running(rig: Rig) -> Iterator[Engine]:
    with rig.engine() as engine:
        until(lambda: known(rig))
        yield engine


def sent_at(rig: Rig) -> Any:
    """When the first address last took a message."""
    [target] = rig.db.read(notices.targets).values()
    return target.sent_at


def warnings(rig: Rig) -> list[str]:
    return [event.detail for event in rig.events() if event.kind == "warning"]


def test_what_waits_goes_out_as_one_message_grouped_by_kind(rig: Rig, box: Inbox) -> None:
    """Seven things of three kinds are one message; what follows at once waits for its time and comes as one, too."""
    rig.settings = replace(rig.settings, notify=replace(rig.settings.notify, min_interval_sec=1.0))
    once = (NoticeKind.BILL, "once only", "k")
    with running(rig):
        budgets = [(NoticeKind.BUDGET, f"budget {n}", "") for n in range(5)]
        raise_all(rig, [*budgets, (NoticeKind.JOB_FAILED, "j1 failed", ""), once, once])
        first = until(lambda: sent_at(rig))
        say(rig, "later 1", "later 2")
        second = until(lambda: sent_at(rig) != first and sent_at(rig))
    [one, two] = box.taken
    assert one["title"] == "gpuscale: 5 budget notices, 1 bill notice, 1 job failed"
    assert one["message"].splitlines() == [
        "5 budget notices:", *(f"budget {n}" for n in range(5)), "1 bill notice:", "once only", "1 job failed:",
        "j1 failed",
    ]  # fmt: skip
    assert two["message"].splitlines() == ["2 budget notices:", "later 1", "later 2"]
    assert second - first >= 1000


def test_a_failure_is_tried_again_is_visible_and_loses_nothing(rig: Rig, box: Inbox) -> None:
    """Answers of 500: each try has everything; one warning when it begins, one when it is over."""
    box.status = 500
    with running(rig):
        say(rig, "first")
        until(lambda: len(box.refused) >= 2)
        [target] = rig.db.read(notices.failing)
        assert target.failures
        assert target.error is not None
        assert "500" in target.error
        say(rig, "second")
        until(lambda: "second" in box.refused[-1]["message"])
        box.status = 200
        until(lambda: box.taken)
        until(lambda: any("again" in text for text in warnings(rig)))
    assert [message["message"] for message in box.refused[:1]] == ["first"]
    assert box.taken[0]["message"].splitlines()[-2:] == ["first", "second"]
    assert len(box.taken) == 1
    said = warnings(rig)
    assert [text.split(":")[0] for text in said if "notices" in text] == [
        "notify.urls 1 (json) takes no notices", "notify.urls 1 (json) takes notices again",
    ]  # fmt: skip
    assert rig.db.read(notices.failing) == []
    assert PASSWORD not in str(said)


def test_a_server_that_hangs_delays_nobody(rig: Rig, box: Inbox) -> None:
    """While one address hangs, another is told, and the engine's heart beats."""
    box.silent.set()
    with inbox() as other:
        urls = (box.url("?rto=60"), other.url())
        rig.settings = replace(rig.settings, notify=replace(rig.settings.notify, urls=urls))
        with running(rig):
            say(rig, "news")
            until(lambda: box.hanging)
            before = rig.db.read(engines.engine).heartbeat_at  # type: ignore[union-attr]
            until(lambda: rig.db.read(engines.engine).heartbeat_at > before + 1000)  # type: ignore[union-attr]
            until(lambda: other.taken)


async def test_a_server_that_hangs_is_given_up(box: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time, whatever the library waits for; the process is gone then."""
    monkeypatch.setattr(notifier, "SEND_SEC", 1.0)
    box.silent.set()
    result = await notifier.send_by_messenger(box.url("?rto=60"), notifier.Message("t", "b"), False)
    assert result.error == "no answer within 1 s"
    assert [pid for pid in children() if b"messenger" in command_line(pid)] == []


def test_an_engine_that_ends_leaves_no_sender_behind(rig: Rig, box: Inbox) -> None:
    """Detached in the middle of a try: the process that sends has ended too."""
    box.silent.set()
    with running(rig):
        say(rig, "news")
        until(lambda: box.hanging)
    assert [pid for pid in children() if b"messenger" in command_line(pid)] == []


def children() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == os.getpid() and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_what_waited_is_sent_once_after_a_restart(rig: Rig, box: Inbox) -> None:
    """The engine before this one could not send; the next one does, once, and what was sent is not sent again."""
    with running(rig):
        say(rig, "sent before")
        until(lambda: box.taken)
        box.status = 500
        say(rig, "waits")
        until(lambda: box.refused)
    say(rig, "while no engine ran")
    box.status = 200
    with running(rig):
        until(lambda: len(box.taken) == 2)
        say(rig, "after")
        until(lambda: len(box.taken) == 3)
    texts = [message["message"].splitlines()[-2:] for message in box.taken]
    assert texts == [["sent before"], ["waits", "while no engine ran"], ["after"]]


def test_news_of_yesterday_is_given_up(rig: Rig, box: Inbox) -> None:
    """An address that was away for a day is not told of it; that there was something, is."""
    with running(rig):
        say(rig, "old", at=utc_ms() - 86_500_000)
        until(lambda: any("1 notices could not be sent for a day" in text for text in warnings(rig)))
        say(rig, "new")
        until(lambda: box.taken)
    assert [message["message"] for message in box.taken] == ["new"]


def test_only_what_was_chosen_is_told(rig: Rig, box: Inbox) -> None:
    """`on` chooses; the rest is passed over."""
    rig.settings = replace(rig.settings, notify=replace(rig.settings.notify, on=("budget",)))
    with running(rig):
        say(rig, "j1 is done", kind=NoticeKind.JOB_DONE)
        say(rig, "budget")
        until(lambda: box.taken)
    assert [message["message"] for message in box.taken] == ["budget"]


def test_the_last_notice_goes_out_before_an_orderly_end(rig: Rig, box: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--exit-when-idle`: what the end itself raises is sent, without waiting for its turn."""
    monkeypatch.setattr(notifier, "LAST_LOOK_SEC", 60.0)
    rig.settings = replace(rig.settings, notify=replace(rig.settings.notify, min_interval_sec=3600.0))
    with running(rig) as engine:
        say(rig, "first")
        until(lambda: box.taken)
        say(rig, "last")
        engine.stop(at_once=False)
        assert engine.wait(100)
    assert [message["message"] for message in box.taken] == ["first", "last"]


def test_an_address_that_cannot_be_read_is_told_and_the_others_go_on(rig: Rig, box: Inbox, tmp_path: Path) -> None:
    """A file that others can read, a variable that is not there: no notices there, and no engine that stumbles."""
    loose = tmp_path / "loose.url"
    loose.write_text(box.url())
    loose.chmod(0o644)
    own = tmp_path / "own.url"
    own.write_text(box.url("/own") + "\n")
    own.chmod(0o600)
    urls = (f"file:{loose}", "env:NO_SUCH_VARIABLE", "nonsense", f"file:{own}")
    rig.settings = replace(rig.settings, notify=replace(rig.settings.notify, urls=urls))
    with running(rig):
        say(rig, "news")
        until(lambda: box.taken)
    said = [text for text in warnings(rig) if text.startswith("notify.urls")]
    assert [text[:14] for text in said] == [f"notify.urls {n}:" for n in (1, 2, 3)]
    assert "chmod 600" in said[0]
    assert PASSWORD not in str(rig.events())


def test_secrets_are_taken_out_by_value() -> None:
    """Whatever they are called and whichever way they are written; what hides one is taken away first."""
    redact = Redactor(["hunter22", "a b/c&d", "abc"])
    notice = Notice(1, 0, "budget", "pw=hunter22 q=a%20b%2Fc%26d h\u200bunter22 \x1b[1mhunter22 abc", None, None)
    assert compose([notice], redact).body == f"pw={MARK} q={MARK} {MARK} {MARK} abc"
    url = "slack://TokenAAAAAA/TokenBBBBBB/TokenCCCCCC"
    assert not any(token in Redactor(parts_of(url))(f"{url} TokenBBBBBB TokenAAAAAA") for token in url[8:].split("/"))
    assert Redactor(parts_of("mailtos://me:pa%24sword@mail.example.org"))("pa$sword mail.example.org") == (
        f"{MARK} mail.example.org"
    )


def test_a_message_calls_nobody_leads_nowhere_and_ends() -> None:
    """A hostile job's name is a line of text in Slack and in a mail."""
    texts = ["@everyone <!channel> <@U1> root@10.0.0.1 http://evil.example/ [x](https://evil.example)", "A" * 9000]
    rows = [Notice(number, 0, "job_failed", text, None, None) for number, text in enumerate(texts + ["x"] * 40)]
    body = compose(rows, Redactor([])).body.splitlines()
    assert body[0] == "42 jobs failed:"
    assert body[1] == ("@ everyone < !channel> < @ U1> root@10.0.0.1 http: //evil.example/ [x](https: //evil.example)")
    assert len(body[2]) == notifier.LONGEST_LINE
    assert body[-1] == "and 32 more"
    assert len(body) == 12


def test_the_end_of_a_job_and_the_loss_of_a_machine_are_told(tmp_path: Path) -> None:
    """Written in the transaction that ends them. What is put back, and what was given back, is no news."""
    home = Home(tmp_path)
    home.ensure()
    bench = Bench(home.database)
    with contextlib.closing(bench.db):
        for cause, error in ((Cause.FINISHED, None), (Cause.USER_ERROR, "exited with 3"), (Cause.HOST_FAULT, "broke")):
            end = AttemptEnd(cause, 0 if error is None else 3, error)
            bench.write(attempt_over, bench.placed(), end, retries=5, **bench.by)
        lost, back = bench.placed(), bench.placed().worker_id
        bench.write(machine_gone, lost.worker_id, "taken", Cause.PREEMPTED, Bill(0, False), retries=5, **bench.by)
        bench.write(workers.begin_release, back, "idle", **bench.by)
        bench.write(machine_gone, back, "closed", None, Bill(0, True), retries=5, **bench.by)
        said = [(row.kind, row.text) for row in bench.db.read(notices.waiting, 0, 100)]
    assert said == [
        ("job_done", "j1 job 1 is done"),
        ("job_failed", "j2 job 2 failed: exited with 3"),
        ("machine_lost", f"w{lost.worker_id} is lost: taken; j{lost.job_id} ran on it"),
    ]


def test_without_the_library_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip install 'gpuscale-tui[notify]'`."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert messenger.send({"url": "json://x", "title": "", "body": "", "private": False}) == {
        "ok": False, "error": "the library for notices is not installed: pip install 'gpuscale-tui[notify]'",
    }  # fmt: skip
