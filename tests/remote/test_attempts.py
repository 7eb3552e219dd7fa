"""The run protocol on each kind of machine: started once, followed exactly, ended for certain."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from pathlib import Path

import pytest

from gpuscale_tui.remote import attempts, scripts
from gpuscale_tui.remote.attempts import (
    AttemptRef,
    AttemptState,
    Exit,
    attach,
    execute,
    prepare,
    remove,
    remove_many,
    status,
    stop,
)
from gpuscale_tui.remote.errors import AttemptRunning, AttemptVanished, NotStarted, RemoteCommandFailed
from gpuscale_tui.remote.launch import Launch
from tests.remote.conftest import PATIENCE_SEC, SLOW_SITES, Log, Site, run, until

REF = AttemptRef(".gpuscale/ab12cd", "j17-1")
LIMITS = (1, 5, 25)
"""Runtime limits in seconds, tried in turn until the command had begun to listen before its time was over."""


def shell_line(text: str, **more: object) -> Launch:
    return Launch(command=text, **more)  # type: ignore[arg-type]


async def start(site: Site, launch: Launch, ref: AttemptRef = REF) -> asyncio.Task[Exit]:
    """Execute in the background; returns when it is certain that the attempt was started."""
    started = asyncio.Event()

    async def tell() -> None:
        started.set()

    machine = await site.connect()
    task = asyncio.create_task(execute(machine, ref, launch, offset=0, sink=Log(), on_started=tell))
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_SEC)
    waiting.cancel()
    assert started.is_set(), task
    return task


def runner_pid(site: Site, ref: AttemptRef = REF) -> int:
    return int((site.path(ref) / "runner").read_text().split()[1])


async def job_pid(site: Site, ref: AttemptRef = REF) -> int:
    """The command's pid, once it leads its own process group."""
    job = site.path(ref) / "job"
    await until(lambda: job.exists() and job.read_text().endswith("\n"), "the command to be recorded")
    pid = int(job.read_text().split()[0])
    await until(lambda: os.getpgid(pid) == pid, "the command to lead its group")
    return pid


def own_birth() -> str:
    """This process's start time, as the machine's scripts read it."""
    return Path("/proc/self/stat").read_text().rpartition(") ")[2].split()[19]


async def kill_and_forget(task: asyncio.Task[Exit]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_exit_codes(site: Site) -> None:
    machine = await site.connect()
    cases = {"true": 0, "false": 1, "exit 137": 137, "kill -9 $$": 137, "kill -15 $$": 143, "no-such-program": 127}
    for number, (line, code) in enumerate(cases.items()):
        ended, _ = await run(machine, AttemptRef(".g", f"c{number}"), shell_line(line))
        assert (line, ended.code, ended.timed_out, ended.stopped) == (line, code, False, False)


async def test_output_is_combined_in_order_and_exact(site: Site) -> None:
    machine = await site.connect()
    line = "printf 'a\\0b'; echo err >&2; printf '\\377\\200gs:exit 1 0 0\\ngpuscale:begin\\nend without newline'"
    ended, output = await run(machine, REF, shell_line(line))
    assert ended.code == 0
    assert output == b"a\0berr\n\xff\x80gs:exit 1 0 0\ngpuscale:begin\nend without newline"


async def test_argv_arrives_exactly(site: Site) -> None:
    words = (
        "",
        "-n",
        "--",
        "two words",
        "it's",
        '"q"',
        "$HOME `id` $(id)",
        "a\nb\n",
        "\\n\\",
        "*",
        "~",
        "é\udcff",
        "#x;&|",
    )
    machine = await site.connect()
    ended, output = await run(machine, REF, Launch(argv=("printf", r"%s\0", *words)))
    assert ended.code == 0
    assert output == b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words)


async def test_environment_arrives_exactly_and_stays_private(site: Site) -> None:
    env = {
        "PLAIN": "x",
        "NL": "a\nb\n",
        "QUOTES": "'\"`$(id)\\",
        "UNI": "日本\U0001f600",
        "RAW": "\udcff\udc80",
        "EMPTY": "",
    }
    env |= {"HOME": "/nowhere", "PATH": "/bin:/usr/bin", "LC_ALL": "C", "SECRET": "s3cr3t-c4n4ry"}
    machine = await site.connect()
    script = "env -0; echo; grep -a -l s3cr3t-c4n4r[y] /proc/[0-9]*/cmdline 2>/dev/null; cat ../launch.* ; umask; wc -c"
    ended, output = await run(machine, REF, Launch(command=script, env=env))
    listing, _, rest = output.rpartition(b"\0\n")
    seen = dict(entry.split(b"=", 1) for entry in listing.split(b"\0"))
    for name, value in env.items():
        assert seen[name.encode()] == value.encode("utf-8", "surrogateescape"), name
    assert seen[b"CHECKPOINT_DIR"] == str(site.path(REF) / "checkpoints").encode()
    assert seen[b"OUTPUT_DIR"] == str(site.path(REF) / "outputs").encode()
    assert seen[b"PWD"] == str(site.path(REF) / "work").encode()
    assert rest.split() == [b"0077", b"0"]  # no argv has the secret, the launch file is empty, umask, stdin is empty
    assert ended.code == 0


async def test_home_stays_and_files_are_private(site: Site) -> None:
    machine = await site.connect()
    _, output = await run(machine, REF, shell_line("echo $HOME; echo x > ../checkpoints/c; pwd"))
    assert output.decode().split() == [str(site.home), str(site.path(REF) / "work")]
    for path in (site.path(REF), *site.path(REF).rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


async def test_prepare_is_harmless_to_repeat_and_keeps_files(site: Site) -> None:
    machine = await site.connect()
    await prepare(machine, REF)
    (site.path(REF) / "work" / "data").write_text("here")
    await prepare(machine, REF)
    assert await run(machine, REF, shell_line("cat data")) == (Exit(0, False, 4), b"here")


async def test_repeated_start_runs_the_command_once(site: Site) -> None:
    machine = await site.connect()
    launch = shell_line("echo run >> ../ran; echo out")
    first = await run(machine, REF, launch)
    assert await run(machine, REF, launch) == first
    assert (site.path(REF) / "ran").read_text() == "run\n"


async def test_starts_at_the_same_instant_run_the_command_once(site: Site) -> None:
    machines = [await site.connect() for _ in range(3)]
    launch = shell_line("echo run >> ../ran; sleep 0.3; echo out; exit 7")
    results = await asyncio.gather(*(run(machine, REF, launch) for machine in machines for _ in range(2)))
    assert {ended for ended, _ in results} == {Exit(7, False, 4)}
    assert {output for _, output in results} == {b"out\n"}
    assert (site.path(REF) / "ran").read_text() == "run\n"
    await until(lambda: not site.living(REF), "all processes to end")


async def test_output_comes_while_the_command_runs(site: Site) -> None:
    machine = await site.connect()
    log, release = Log(), site.path(REF) / "work" / "go"
    task = asyncio.create_task(
        execute(
            machine, REF, shell_line("echo one; until [ -e go ]; do sleep 0.05; done; echo two"), offset=0, sink=log
        )
    )
    await until(lambda: log.data == b"one\n", "the first line")
    assert not task.done()
    release.touch()
    assert await task == Exit(0, False, 8)
    assert log.data == b"one\ntwo\n"


async def test_attach_from_any_offset(site: Site) -> None:
    machine = await site.connect()
    _, whole = await run(machine, REF, shell_line("i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done"))
    for offset in (0, 1, 500, len(whole) - 1, len(whole)):
        log = Log()
        assert await attach(machine, REF, offset=offset, sink=log) == Exit(0, False, len(whole))
        assert log.data == whole[offset:]


async def test_attach_to_a_running_attempt(site: Site) -> None:
    task = await start(site, shell_line("echo one; until [ -e go ]; do sleep 0.05; done; echo two; exit 3"))
    await until(lambda: (site.path(REF) / "output").read_bytes() == b"one\n")
    await kill_and_forget(task)
    machine, log = await site.connect(), Log()
    attached = asyncio.create_task(attach(machine, REF, offset=2, sink=log))
    await until(lambda: log.data == b"e\n", "the rest of the first line")
    assert (await status(machine, REF)).state is AttemptState.RUNNING
    (site.path(REF) / "work" / "go").touch()
    assert await attached == Exit(3, False, 8)
    assert log.data == b"e\ntwo\n"
    await until(lambda: not site.living(REF), "all processes to end")


async def test_never_started(site: Site) -> None:
    machine = await site.connect()
    assert (await status(machine, REF)).state is AttemptState.NOT_STARTED
    with pytest.raises(NotStarted, match="j17-1"):
        await attach(machine, REF, offset=0, sink=Log())
    with pytest.raises(AttemptVanished):  # output was received before, so it was started, so it is gone
        await execute(machine, REF, shell_line("echo run >> $HOME/ran"), offset=5, sink=Log())
    await prepare(machine, REF)
    assert (await status(machine, REF)).state is AttemptState.NOT_STARTED
    assert not (site.home / "ran").exists()


async def test_status_of_each_state(site: Site) -> None:
    machine = await site.connect()
    task = await start(site, shell_line("printf 12345; until [ -e go ]; do sleep 0.05; done; exit 9"))
    await until(lambda: (site.path(REF) / "output").stat().st_size == 5)
    running = await status(machine, REF)
    assert (running.state, running.output_size, running.exit) == (AttemptState.RUNNING, 5, None)
    (site.path(REF) / "work" / "go").touch()
    await task
    ended = await status(machine, REF)
    assert (ended.state, ended.exit) == (AttemptState.EXITED, Exit(9, False, 5))


@pytest.mark.parametrize("site", SLOW_SITES, indirect=True)
async def test_children_left_behind_are_ended(site: Site) -> None:
    machine = await site.connect()
    ended, _ = await run(machine, REF, shell_line("sleep 1000 & (trap '' TERM; sleep 1000) & sleep 0.1; exit 4"))
    assert ended.code == 4
    await until(lambda: not site.living(REF), "the slot to be free")


async def test_a_suspended_command_has_not_ended(site: Site) -> None:
    task = await start(site, shell_line("until [ -e go ]; do sleep 0.05; done; exit 6"))
    group = await job_pid(site)
    os.killpg(group, signal.SIGSTOP)
    assert not (await asyncio.wait([task], timeout=0.5))[0]
    (site.path(REF) / "work" / "go").touch()
    os.killpg(group, signal.SIGCONT)
    assert (await task).code == 6


@pytest.mark.parametrize("site", SLOW_SITES, indirect=True)
async def test_runtime_limit_holds_without_us(site: Site) -> None:
    for limit in LIMITS:
        ref = AttemptRef(".g", f"limit{limit}")
        line = "trap 'echo saved; exit 0' TERM; echo on; sleep 1000 & wait"
        task = await start(site, shell_line(line, runtime_limit_sec=limit, grace_sec=60), ref)
        await kill_and_forget(task)
        await site.machines.aclose()
        await until((site.path(ref) / "exit").exists, "the limit to be enforced")
        log = Log()
        ended = await attach(await site.connect(), ref, offset=0, sink=log)
        await until(lambda ref=ref: not site.living(ref), "the watchdog to end")
        assert ended.timed_out
        if log.data:
            break
    assert ended.code == 0
    assert log.data == b"on\nsaved\n"


@pytest.mark.parametrize("site", SLOW_SITES, indirect=True)
async def test_runtime_limit_on_a_command_that_ignores_term(site: Site) -> None:
    for limit in LIMITS:
        ref = AttemptRef(".g", f"limit{limit}")
        launch = shell_line("trap '' TERM; echo on; while :; do sleep 0.1; done", runtime_limit_sec=limit, grace_sec=1)
        ended, output = await run(await site.connect(), ref, launch)
        await until(lambda ref=ref: not site.living(ref), "the watchdog to end")
        assert ended.timed_out
        if output:
            break
    assert ended.code == 137


async def test_the_watchdog_does_not_outlive_the_command(site: Site) -> None:
    machine = await site.connect()
    for number in range(5):
        ref = AttemptRef(".g", f"w{number}")
        ended, _ = await run(machine, ref, shell_line("true", runtime_limit_sec=3600))
        assert ended == Exit(0, False, 0)
        await until(lambda ref=ref: not site.living(ref), "the watchdog to end")


async def test_stop_gives_time_to_save(site: Site) -> None:
    inner = 'trap "sleep 0.3; echo saved; exit 5" TERM; echo up; while :; do sleep 0.05; done'
    line = f"true && sh -c '{inner}'; true"
    task = await start(site, shell_line(line))
    await until(lambda: (site.path(REF) / "output").read_bytes() == b"up\n")
    machine = await site.connect()
    ended = await stop(machine, REF, grace_sec=20)
    assert (ended.stopped, ended.timed_out) == (True, False)
    assert (site.path(REF) / "output").read_bytes().endswith(b"saved\n")  # the grandchild had its time
    assert await stop(machine, REF, grace_sec=20) == ended
    assert await task == ended
    assert not site.living(REF)


@pytest.mark.parametrize("site", SLOW_SITES, indirect=True)
async def test_stop_ends_a_command_that_ignores_term(site: Site) -> None:
    task = await start(site, shell_line("trap '' TERM; echo up; while :; do sleep 0.1; done"))
    await until(lambda: (site.path(REF) / "output").read_bytes() == b"up\n")
    ended = await stop(await site.connect(), REF, grace_sec=1)
    assert (ended.code, ended.stopped) == (137, True)
    assert await task == ended
    await until(lambda: not site.living(REF))


async def test_stop_bars_an_attempt_that_was_never_started(site: Site) -> None:
    machine = await site.connect()
    ended = await stop(machine, REF, grace_sec=1)
    assert ended == Exit(143, False, 0, stopped=True)
    assert await run(machine, REF, shell_line("echo run > $HOME/ran")) == (ended, b"")
    assert not (site.home / "ran").exists()


async def test_vanished_when_everything_was_killed(site: Site) -> None:
    task = await start(site, shell_line("echo before; sleep 1000"))
    await until(lambda: (site.path(REF) / "output").read_bytes() == b"before\n")
    await kill_and_forget(task)
    await site.machines.aclose()
    while pids := site.living(REF):
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.01)
    machine, log = await site.connect(), Log()
    assert (await status(machine, REF)).state is AttemptState.VANISHED
    with pytest.raises(AttemptVanished, match="new attempt"):
        await attach(machine, REF, offset=0, sink=log)
    assert log.data == b"before\n"  # its last words are kept
    ended = await stop(machine, REF, grace_sec=1)
    assert (ended.code, ended.stopped) == (137, True)


async def test_vanishing_is_noticed_while_following(site: Site) -> None:
    task = await start(site, shell_line("sleep 1000"))
    group = await job_pid(site)
    os.kill(runner_pid(site), signal.SIGKILL)
    os.killpg(group, signal.SIGKILL)
    with pytest.raises(AttemptVanished):
        await task


@pytest.mark.parametrize("site", SLOW_SITES, indirect=True)
async def test_a_command_without_its_runner_still_runs(site: Site) -> None:
    line = "(until [ -e go ]; do sleep 0.05; done; echo late) & sleep 0.3; exit 0"
    task = await start(site, shell_line(line))
    leader = await job_pid(site)
    os.kill(runner_pid(site), signal.SIGKILL)
    await until(lambda: not Path(f"/proc/{leader}").exists(), "the leader to end")
    machine = await site.connect()
    assert (await status(machine, REF)).state is AttemptState.RUNNING  # its child lives: it must not run twice
    assert not task.done()
    (site.path(REF) / "work" / "go").touch()
    with pytest.raises(AttemptVanished):
        await task


async def test_stop_without_a_runner(site: Site) -> None:
    task = await start(site, shell_line("sleep 1000"))
    await job_pid(site)
    os.kill(runner_pid(site), signal.SIGKILL)
    ended = await stop(await site.connect(), REF, grace_sec=1)
    assert (ended.code, ended.stopped) == (137, True)
    assert await task == ended
    assert not site.living(REF)


@pytest.mark.parametrize("forged", ["another-boot {pid} {born}", "{boot} {pid} 1", "{boot} 999999999 5"])
async def test_a_stranger_with_the_same_number_is_not_the_attempt(dash_site: Site, forged: str) -> None:
    machine = await dash_site.connect()
    await run(machine, REF, shell_line("true"))
    place = dash_site.path(REF)
    boot = (place / "runner").read_text().split()[0]
    born = own_birth()
    (place / "exit").unlink()
    (place / "runner").write_text(forged.format(boot=boot, pid=os.getpid(), born=born) + "\n")
    (place / "job").write_text(f"{os.getpid()} {born if 'another' in forged else 1}\n")
    assert (await status(machine, REF)).state is AttemptState.VANISHED
    ended = await stop(machine, REF, grace_sec=0)  # would end this very process if it believed the number
    assert ended.code == 137


async def test_remove(site: Site) -> None:
    machine = await site.connect()
    task = await start(
        site, shell_line("mkdir -p ../checkpoints/d; touch ../checkpoints/d/f; chmod 0 ../checkpoints/d; sleep 1000")
    )
    with pytest.raises(AttemptRunning):
        await remove(machine, REF)
    await stop(machine, REF, grace_sec=5)
    await task
    await remove(machine, REF)
    assert list((site.home / REF.base).iterdir()) == []
    await remove(machine, REF)
    assert (await status(machine, REF)).state is AttemptState.NOT_STARTED


async def test_remove_many_leaves_what_runs(site: Site) -> None:
    machine = await site.connect()
    refs = [AttemptRef(".g", f"m{number}") for number in range(100)]
    for ref in refs[:3]:
        await run(machine, ref, shell_line("true"))
    task = await start(site, shell_line("sleep 1000"), refs[50])
    assert await remove_many(machine, refs) == (refs[50],)
    assert [each.name for each in (site.home / ".g").iterdir()] == ["m50"]
    await stop(machine, refs[50], grace_sec=5)
    await task
    assert await remove_many(machine, refs) == ()
    assert list((site.home / ".g").iterdir()) == []


async def test_whether_checkpoints_and_outputs_were_left(site: Site) -> None:
    machine = await site.connect()
    lines = {
        "true": (False, False),
        "touch ../checkpoints/.x": (True, False),
        "ln -s nowhere ../checkpoints/l": (True, False),
        "touch $OUTPUT_DIR/..x": (False, True),
        "mkdir $OUTPUT_DIR/d; touch $CHECKPOINT_DIR/c": (True, True),
    }
    for number, (line, left) in enumerate(lines.items()):
        ref = AttemptRef(".g", f"k{number}")
        ended, _ = await run(machine, ref, shell_line(line))
        assert (ended.has_checkpoints, ended.has_outputs) == left, line
        assert (await status(machine, ref)).exit == ended


async def test_started_is_told_once(site: Site) -> None:
    told: list[str] = []

    async def tell() -> None:
        told.append("started")

    machine = await site.connect()
    launch = shell_line("sleep 0.3")
    await execute(machine, REF, launch, offset=0, sink=Log(), on_started=tell)
    assert told == ["started"]
    await execute(machine, REF, launch, offset=0, sink=Log(), on_started=tell)
    await attach(machine, REF, offset=0, sink=Log(), on_started=tell)
    assert told == ["started"] * 3


async def test_a_full_sink_stops_delivery_not_the_job(site: Site) -> None:
    async def full(data: bytes) -> None:
        raise OSError("disk full")

    machine = await site.connect()
    with pytest.raises(OSError, match="disk full"):
        await execute(machine, REF, shell_line("echo out; sleep 0.2; echo done"), offset=0, sink=full)
    log = Log()
    assert (await attach(machine, REF, offset=0, sink=log)).code == 0
    assert log.data == b"out\ndone\n"


async def test_large_output(site: Site) -> None:
    machine = await site.connect()
    ended, output = await run(
        machine, REF, shell_line("i=0; while [ $i -lt 8000 ]; do echo line $i of output; i=$((i+1)); done")
    )
    assert ended.code == 0
    assert len(output) > 2 * scripts.FIRST_BYTES
    assert output == b"".join(b"line %d of output\n" % number for number in range(8000))


async def test_job_control_where_there_is_no_setsid(dash_site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert dash_site.server is not None
    tools = tmp_path_factory.mktemp("tools")
    for name in ("cat", "dd", "mkdir", "mv", "rm", "sleep", "tail", "wc", "true", "env"):
        (tools / name).symlink_to(f"/bin/{name}")
    dash_site.server.path = str(tools)
    machine = await dash_site.connect()
    with pytest.raises(RemoteCommandFailed, match="setsid"):
        await run(machine, REF, shell_line("true"))
    machine.shell = "/bin/bash"
    ref = AttemptRef(".g", "b1")
    ended, output = await run(machine, ref, shell_line("sleep 1000 & echo hi; exit 2", runtime_limit_sec=60))
    assert (ended.code, output) == (2, b"hi\n")
    await until(lambda: not dash_site.living(ref))


@pytest.mark.parametrize("site", SLOW_SITES, indirect=True)
async def test_a_machine_without_proc(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("START", "RUNNER", "WATCHDOG", "FOLLOW", "STATUS", "STOP", "REMOVE"):
        monkeypatch.setattr(scripts, name, getattr(scripts, name).replace("/proc/", "/nowhere/"))
    machine = await site.connect()
    assert (await run(machine, REF, shell_line("echo hi; exit 3", runtime_limit_sec=60)))[0] == Exit(3, False, 3)
    ref = AttemptRef(".g", "p1")
    task = await start(site, shell_line("sleep 1000"), ref)
    assert (await status(machine, ref)).state is AttemptState.RUNNING
    assert (await stop(machine, ref, grace_sec=5)).code == 143
    assert (await task).code == 143


async def test_a_full_disk_is_told(dash_site: Site) -> None:
    (dash_site.home / ".gpuscale").write_text("a file where the directory should be")
    machine = await dash_site.connect()
    with pytest.raises(RemoteCommandFailed, match="no file could be written"):
        await run(machine, REF, shell_line("true"))


async def test_detached_from_a_server_that_kills_sessions(dash_site: Site) -> None:
    assert dash_site.server is not None
    dash_site.server.kill_on_close = True
    task = await start(dash_site, shell_line("until [ -e go ]; do sleep 0.05; done; echo lived"))
    await dash_site.machines.aclose()
    await kill_and_forget(task)
    (dash_site.path(REF) / "work" / "go").touch()
    log = Log()
    assert (await attach(await dash_site.connect(), REF, offset=0, sink=log)).code == 0
    assert log.data == b"lived\n"


async def test_a_talkative_login_shell_changes_nothing(dash_site: Site) -> None:
    assert dash_site.server is not None
    dash_site.server.prelude = "echo Welcome; echo no tty >&2; printf partial; "
    machine = await dash_site.connect()
    assert await run(machine, REF, shell_line("echo out")) == (Exit(0, False, 4), b"out\n")
    done = await machine.run("echo x", label="probe")
    assert done.stdout == b"x\n"


def test_names_are_checked() -> None:
    for base in ("", "/abs", "a//b", "../up", "a/..", ".", "a b", "a;b", "a/b/c/d/e", "-rf", "a\n"):
        with pytest.raises(ValueError, match="base"):
            AttemptRef(base, "j1")
    for name in ("", ".", "..", "a/b", "-x", ".hid", "a b", "$x", "x" * 65, "j\n"):
        with pytest.raises(ValueError, match="name"):
            AttemptRef(".g", name)
    assert attempts.AttemptRef(".gpuscale/ab12cd", "j17-1").directory == ".gpuscale/ab12cd/j17-1"
