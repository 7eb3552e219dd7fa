"""When the bastion dies: the machine counts the silence, has its jobs save and stop, and ends itself where it may."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from gpuscale_tui.remote import lease, pulse, scripts
from gpuscale_tui.remote.attempts import AttemptRef, AttemptState, attach, execute, status
from gpuscale_tui.remote.errors import RemoteError
from gpuscale_tui.remote.launch import Launch
from gpuscale_tui.remote.lease import Ending, Lease
from tests.remote.conftest import PATIENCE_SEC, SLOW_SITES, Log, Site, processes_under, run, until

BASE = ".gpuscale/ab12cd"
REF = AttemptRef(BASE, "j17-1")
SHORT = Lease(1, Ending.NOTHING, 20)
LONG = Lease(3600, Ending.NOTHING, 20)
SAVES = 'trap "echo saved; echo 7 > $CHECKPOINT_DIR/step; exit 0" TERM; echo up; while :; do sleep 0.05; done'


async def begin(site: Site, terms: Lease, command: str = SAVES) -> None:
    """A job that has said its first word, a lease, and then silence: every connection is gone."""
    machine = await site.connect()
    running = asyncio.create_task(execute(machine, REF, Launch(command=command), offset=0, sink=Log()))
    output = site.path(REF) / "output"
    await until(lambda: output.exists() and output.read_bytes(), "the job's first word")
    assert await lease.renew(machine, BASE, terms) is False
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await machine.close()


def watchdogs(site: Site) -> list[int]:
    """The lease's watchdogs of this machine (and what sleeps for them)."""
    return [pid for pid in processes_under(site.home / BASE / ".lease") if b"gpuscale-lease" in words(pid)]


def words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("site", SLOW_SITES, indirect=True)
async def test_a_silent_engine_lets_the_job_save_and_stop(site: Site) -> None:
    hook = site.home / ".poweroff"
    hook.write_text('#!/bin/sh\ntouch "$HOME/ended"\n')
    hook.chmod(0o755)
    await begin(site, SHORT)
    await until((site.path(REF) / "exit").exists, "the end of the lease")
    await until(lambda: not watchdogs(site), "the watchdog to end")
    assert not (site.home / "ended").exists()  # this machine is not rented
    machine, log = await site.connect(), Log()
    ended = await attach(machine, REF, offset=0, sink=log)
    assert (ended.code, ended.stopped, ended.lapsed, ended.timed_out) == (0, True, True, False)
    assert (log.data[:3], log.data[-6:], ended.has_checkpoints) == (b"up\n", b"saved\n", True)
    await until(lambda: not site.living(REF), "the last process to go")
    # the engine is told once, and the machine works on
    assert await lease.renew(machine, BASE, LONG) is True
    assert await lease.renew(machine, BASE, LONG) is False
    assert (await run(machine, AttemptRef(BASE, "j17-2"), Launch(command="echo again")))[1] == b"again\n"


async def test_whoever_renews_keeps_everything(dash_site: Site, tmp_path: Path) -> None:
    """The lease goes by, and again, and nothing happens: each call begins the count anew. Its seconds are the test's:
    the watchdog's sleep ends when it is told so."""
    tools, tick, looks = tmp_path / "slow", dash_site.home / "tick", dash_site.home / "looks"
    tools.mkdir()
    (tools / "sleep").write_text(
        '#!/bin/sh\n[ "$1" = 1 ] || exec /bin/sleep "$1"\n'
        'echo >> "$HOME/looks"; until rm "$HOME/tick" 2>/dev/null; do /bin/sleep 0.01; done\n'
    )
    (tools / "sleep").chmod(0o755)
    assert dash_site.server is not None
    dash_site.server.path = f"{tools}:{dash_site.server.path}"
    terms = replace(SHORT, seconds=3)

    async def one_second() -> None:
        seen = looks.stat().st_size
        tick.touch()
        await until(lambda: looks.stat().st_size > seen or not watchdogs(dash_site), "the watchdog's next look")

    await begin(dash_site, terms)
    await until(lambda: looks.exists() and looks.stat().st_size, "the watchdog's first look")
    machine = await dash_site.connect()
    for _ in range(7):
        await one_second()
        await lease.renew(machine, BASE, terms)
    assert (await status(machine, REF)).state is AttemptState.RUNNING
    while watchdogs(dash_site):
        assert looks.stat().st_size < 20
        await one_second()
    await until((dash_site.path(REF) / "exit").exists, "the end of the lease")
    assert looks.stat().st_size == 1 + 7 + 3


@pytest.mark.parametrize("site", ["busybox"], indirect=True)
async def test_one_watchdog_a_machine_however_often_it_is_asked_for(site: Site) -> None:
    machine = await site.connect()
    await asyncio.gather(*(lease.renew(machine, BASE, replace(LONG, seconds=12)) for _ in range(8)))
    await until(lambda: len(watchdogs(site)) == 1, "one watchdog")
    keeper = site.home / BASE / ".lease" / "keeper"
    before = keeper.read_text()
    await lease.renew(machine, BASE, LONG)
    await until(lambda: [str(pid) for pid in watchdogs(site)] == before.split()[1:2], "the same one alone")
    assert keeper.read_text() == before
    await lease.renew(machine, BASE, replace(LONG, seconds=0))
    await until(lambda: not watchdogs(site), "the last to go where there is no lease")


async def test_what_has_ended_and_what_was_never_started_is_let_alone(dash_site: Site) -> None:
    machine = await dash_site.connect()
    ended, _ = await run(machine, REF, Launch(command="exit 3"))
    waiting = AttemptRef(BASE, "j18-1")
    (dash_site.home / BASE / "j18-1").mkdir()
    await lease.renew(machine, BASE, SHORT)
    await until((dash_site.home / BASE / ".lease" / "over").exists, "the end of the lease")
    await until(lambda: not watchdogs(dash_site))
    assert (await status(machine, REF)).exit == ended
    assert (await status(machine, waiting)).state is AttemptState.NOT_STARTED


async def test_a_machine_is_ended_in_its_own_way_after_its_jobs(dash_site: Site) -> None:
    hook = dash_site.home / ".poweroff"
    hook.write_text(f'#!/bin/sh\ncat "$HOME/{REF.directory}/exit" > "$HOME/ended"\n')
    hook.chmod(0o755)
    await begin(dash_site, replace(SHORT, ending=Ending.HOOK))
    left = dash_site.home / "ended"
    await until(lambda: left.exists() and left.read_text(), "the hook")
    assert left.read_text().split() == ["0", "0", "2"]


async def test_an_engine_that_comes_back_while_its_job_saves_keeps_the_machine(dash_site: Site) -> None:
    hook = dash_site.home / ".poweroff"
    hook.write_text('#!/bin/sh\ntouch "$HOME/ended"\n')
    hook.chmod(0o755)
    save = 'trap "until [ -e go ]; do sleep 0.05; done; exit 0" TERM; echo up; while :; do sleep 0.05; done'
    await begin(dash_site, Lease(1, Ending.HOOK, 60), save)
    over = dash_site.home / BASE / ".lease" / "over"
    await until(over.exists, "the end of the lease")
    machine = await dash_site.connect()
    assert await lease.renew(machine, BASE, replace(LONG, ending=Ending.HOOK)) is True
    (dash_site.path(REF) / "work" / "go").touch()
    await until((dash_site.path(REF) / "exit").exists, "the job to end")
    renewed = dash_site.home / BASE / ".lease" / "renewed"
    await until(lambda: not renewed.exists(), "the watchdog to count anew")
    await until(lambda: len(watchdogs(dash_site)) == 1, "the watchdog alone")
    assert not (dash_site.home / "ended").exists()


async def test_a_lease_that_cannot_be_written_is_said(dash_site: Site) -> None:
    (dash_site.home / ".gpuscale").write_text("a file where our directory should be")
    with pytest.raises(RemoteError):
        await lease.renew(await dash_site.connect(), BASE, LONG)
    with pytest.raises(ValueError, match="no directory"):
        LONG.line("../elsewhere; rm", "-")


async def test_the_computer_that_we_run_on_is_never_shut_down(dash_site: Site) -> None:
    """Whatever its address: a machine on the same kernel as ours keeps to its own hook, if it has one."""
    machine = await dash_site.connect()
    await lease.renew(machine, BASE, replace(LONG, ending=Ending.MACHINE))
    assert (dash_site.home / BASE / ".lease" / "term").read_text() == "3600 hook 20\n"
    elsewhere = replace(LONG, ending=Ending.MACHINE).line(BASE, "-").split()
    assert elsewhere == [BASE.encode(), b"3600", b"machine", b"20", b"-"]
    assert lease.own_boot() == lease.BOOT_ID.read_text().strip()


def test_a_container_ends_with_its_first_process(tmp_path: Path) -> None:
    """In a process namespace of its own, as in a container: what is process 1 there waits and ignores TERM."""
    namespace = [shutil.which("unshare") or "false", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process namespaces for us here")
    (tmp_path / BASE / ".lease").mkdir(parents=True)
    (tmp_path / BASE / ".lease" / "term").write_text("1 machine 1\n")
    keeper = lease.KEEPER.replace("sleep 5\n", "sleep 0.1\n").replace("sleep 10\n", "sleep 0.1\n")
    (tmp_path / "keeper").write_text(keeper)
    (tmp_path / "stop").write_text(scripts.STOP)
    entry = (
        f'/bin/sh -c "$(cat keeper)" gpuscale-lease /bin/sh "$(cat stop)" {BASE} & '
        "trap : TERM; sleep 1000; sleep 0.2; echo entrypoint over"
    )
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "sleep", "cat", "mv", "rm", "mkdir"):
        (tools / name).symlink_to(shutil.which(name) or name)  # no poweroff, as in most images
    done = subprocess.run(
        [*namespace, "/bin/sh", "-c", entry], cwd=tmp_path, env={"HOME": str(tmp_path), "PATH": str(tools)},
        capture_output=True, text=True, timeout=PATIENCE_SEC, check=False,
    )  # fmt: skip
    assert done.stdout == "entrypoint over\n"


@pytest.mark.parametrize("site", SLOW_SITES, indirect=True)
async def test_a_pulse_tells_a_quiet_worker_from_one_that_stands_still(site: Site) -> None:
    """CPU time grows where something computes, children that ended included, and not where all sleep."""
    machine = await site.connect()
    works = asyncio.create_task(execute(machine, REF, Launch(command="while :; do :; done"), offset=0, sink=Log()))
    sleeper = AttemptRef(BASE, "j18-1")
    sleeps = asyncio.create_task(execute(machine, sleeper, Launch(command="sleep 1000"), offset=0, sink=Log()))
    await until(lambda: (site.path(REF) / "job").exists() and (site.path(sleeper) / "job").exists())
    async with asyncio.timeout(PATIENCE_SEC):
        while ((await pulse.take(machine, REF)).cpu_ms or 0) < 300:
            pass
    first = (await pulse.take(machine, REF)).cpu_ms or 0
    still = await pulse.take(machine, sleeper)
    async with asyncio.timeout(PATIENCE_SEC):
        while ((await pulse.take(machine, REF)).cpu_ms or 0) <= first:
            pass
    later = await pulse.take(machine, sleeper)
    assert still.cpu_ms is not None
    assert still.cpu_ms < 100
    assert later.cpu_ms == still.cpu_ms
    for task in (works, sleeps):
        task.cancel()
    await asyncio.gather(works, sleeps, return_exceptions=True)


@pytest.mark.parametrize(
    ("answer", "percent"),
    [
        ("printf '3\\n97\\n0\\n'", 97),
        ("echo 0", 0),
        ("exit 9", None),
        ("printf '[N/A]\\n55 %%\\n'", 55),
        ("echo 5000", None),
    ],
)
async def test_the_busiest_gpu_counts(dash_site: Site, tmp_path: Path, answer: str, percent: int | None) -> None:
    tools = tmp_path / "gpu"
    tools.mkdir()
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\n{answer}\n")
    (tools / "nvidia-smi").chmod(0o755)
    assert dash_site.server is not None
    dash_site.server.path = f"{tools}:{dash_site.server.path}"
    found = await pulse.take(await dash_site.connect(), REF)
    assert found == pulse.Pulse(None, percent)
