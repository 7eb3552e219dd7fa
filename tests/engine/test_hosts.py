"""The engine on hosts of our own: OpenSSH's sshd, kill -9, stopping, cancelling, secrets."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpuscale_tui.engine import commands
from gpuscale_tui.engine.engine import Engine
from gpuscale_tui.engine.lock import EngineRunning, running_engine
from gpuscale_tui.model.settings import ProvidersConfig, SshConfig
from gpuscale_tui.store import engines
from gpuscale_tui.store.database import Database, StaleEngine
from tests.engine.conftest import PATIENCE_SEC, WAIT, Rig, until

pytestmark = pytest.mark.openssh
MARK = 'echo "$GPUSCALE_JOB_ID $GPUSCALE_ATTEMPT" >> "$HOME/ran";'


def ran(rig: Rig) -> list[str]:
    """Which attempts really began on the hosts, as their commands themselves noted."""
    path = rig.home.path.parent / "sshd" / "home" / "ran"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def write_config(rig: Rig) -> Path:
    """The rig's settings as a file, for the real program."""
    scaler = rig.settings.scaler
    lines = [
        "[scaler]", 'gpu_type = "none"', f"poll_interval_sec = {scaler.poll_interval_sec}",
        f"max_workers = {scaler.max_workers}", "scale_up_threshold = 1", "shutdown_grace_sec = 60",
        "[checkpoints]", "interval_sec = 1",
    ]  # fmt: skip
    for host in rig.settings.providers.ssh.hosts:
        lines += [
            "[[providers.ssh.hosts]]", f'name = "{host.name}"', f'host = "{host.host}"', f"port = {host.port}",
            f'user = "{host.user}"',
        ]  # fmt: skip
    path = rig.home.path.parent / "config.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


@contextlib.contextmanager
def autopilot(rig: Rig, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The real program, headless."""
    command = [
        sys.executable, "-m", "gpuscale_tui", "--autopilot", "--home", str(rig.home.path), "--config",
        str(write_config(rig)), *options,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=rig.environ, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate(timeout=PATIENCE_SEC)


def test_a_sweep_survives_kill_9_every_job_once_and_every_log_whole(hosts: Rig) -> None:
    """The engine is killed while jobs run; the next one re-attaches: nothing is lost, nothing runs twice."""
    script = MARK + " i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line $i; sleep 0.03; done"
    ids = hosts.submit(script, 20)
    for _ in range(3):
        with autopilot(hosts) as engine:
            done_before = sum(job.state == "done" for job in hosts.jobs())
            goal = min(done_before + 2, len(ids))
            until(lambda goal=goal: sum(job.state == "done" for job in hosts.jobs()) >= goal)
            engine.send_signal(signal.SIGKILL)
            engine.wait(PATIENCE_SEC)
            time.sleep(0.2)
    with autopilot(hosts, "--exit-when-idle") as engine:
        assert engine.wait(PATIENCE_SEC) == 0
    assert [hosts.job(job_id).state for job_id in ids] == ["done"] * 20
    assert sorted(ran(hosts)) == sorted(f"j{job_id} 1" for job_id in ids)
    expected = b"".join(b"line %d\n" % number for number in range(1, 31))
    assert all(hosts.output(job_id) == expected for job_id in ids)
    assert {worker.state for worker in hosts.workers()} == {"released"}


def test_one_engine_a_home(hosts: Rig) -> None:
    """A second engine is refused with the first one's pid, and can start once that has ended."""
    with hosts.engine():
        assert running_engine(hosts.home) == os.getpid()
        with pytest.raises(EngineRunning, match=str(os.getpid())), hosts.engine():
            pass
    assert running_engine(hosts.home) is None
    with hosts.engine():
        pass


def test_a_stale_engine_changes_nothing_more(hosts: Rig) -> None:
    """Whoever took the home over later wins, even if both were alive."""
    with hosts.engine() as engine:
        limits = engines.Limits(1, 1)
        with Database(hosts.home.database) as db:
            db.write(engines.begin_epoch, 1, "test", limits, 1)
        assert engine.wait(PATIENCE_SEC)
        assert isinstance(engine.failure, StaleEngine)


def test_stopping_lets_what_runs_finish_and_keeps_what_waits(hosts: Rig) -> None:
    """`stop`: no new work, what runs ends, everything is given back, the rest stays pending."""
    ids = hosts.submit(f"{WAIT} echo end", 5)
    with hosts.engine() as engine:
        until(lambda: sum(job.state == "running" for job in hosts.jobs()) == 2)
        hosts.command(commands.stop, at_once=False)
        until(lambda: not hosts.db.read(engines.open_requests))
        hosts.gate.touch()
        assert engine.wait(PATIENCE_SEC)
        assert engine.outcome == "stopped; everything is given back"
        assert running_engine(hosts.home) is None
    assert sorted(hosts.job(job_id).state for job_id in ids) == ["done"] * 2 + ["pending"] * 3
    assert {worker.state for worker in hosts.workers()} == {"released"}


def test_stopping_at_once_saves_and_puts_back(hosts: Rig) -> None:
    """`stop --now`: checkpoints are saved, jobs go back to the queue without a fault, and resume later."""
    script = (
        'trap "echo saved > $CHECKPOINT_DIR/state; exit 0" TERM; [ -f "$CHECKPOINT_DIR/state" ] && exit 0;'
        " echo begun; while :; do sleep 0.1; done"
    )
    [job_id] = hosts.submit(script)
    with hosts.engine() as engine:
        until(lambda: hosts.output(job_id) == b"begun\n")
        engine.stop(at_once=True)
        assert engine.wait(PATIENCE_SEC)
    assert (hosts.job(job_id).state, hosts.job(job_id).attempt) == ("pending", 1)
    hosts.drain()
    assert (hosts.job(job_id).state, hosts.job(job_id).attempt) == ("done", 2)
    assert hosts.attempts(job_id)[1].resumed_from == 1


def test_releasing_a_busy_machine_moves_its_job(hosts: Rig) -> None:
    """The job is saved, stopped and put back; it runs on elsewhere and that is no fault of its own."""
    [job_id] = hosts.submit('[ "$GPUSCALE_ATTEMPT" -gt 1 ] && exit 0; echo begun; sleep 300', retries=0)
    with hosts.engine(exit_when_idle=True) as engine:
        until(lambda: hosts.output(job_id) == b"begun\n")
        worker = hosts.job(job_id).worker_id
        assert worker is not None
        hosts.command(commands.release, worker)
        assert engine.wait(PATIENCE_SEC)
    assert (hosts.job(job_id).state, hosts.job(job_id).attempt) == ("done", 2)


def test_failures_are_the_jobs_own_and_harm_no_other(hosts: Rig) -> None:
    """A command that fails, one that runs too long and one that succeeds, side by side."""
    [bad] = hosts.submit("echo broken; exit 3")
    [slow] = hosts.submit("sleep 300", max_runtime_sec=1)
    [good] = hosts.submit("echo fine")
    [lost] = hosts.submit("true", workdir=str(hosts.home.path / "no-such-directory"))
    hosts.drain()
    assert (hosts.job(bad).state, hosts.job(bad).exit_code, hosts.job(bad).cause) == ("failed", 3, "user_error")
    assert (hosts.job(slow).state, hosts.job(slow).cause) == ("failed", "timeout")
    assert hosts.job(good).state == "done"
    assert hosts.job(lost).state == "failed"
    assert "no-such-directory" in (hosts.job(lost).error or "")


def test_a_secret_reaches_the_job_and_nothing_else(hosts: Rig) -> None:
    """Its value is in the job's environment; not in the database, the events, any argv or a world-readable file."""
    secret = "canary-7f31c0"
    script = 'test "$API_TOKEN" = "$EXPECTED" && echo got it; ps -eo args'
    [job_id] = hosts.submit(
        f'{script} | grep -c "[c]anary-7f31c0"; true', secret_env={"API_TOKEN": secret, "EXPECTED": secret}
    )
    hosts.drain()
    output = hosts.output(job_id).decode()
    assert "got it" in output
    assert output.splitlines()[-1] == "0"
    assert secret not in "".join(map(str, hosts.events()))
    for name in ("gpuscale.db", "gpuscale.db-wal"):
        path = hosts.home.path / name
        assert not path.exists() or secret.encode() not in path.read_bytes()


def test_a_working_directory_travels_and_checkpoints_land_where_the_command_writes_them(
    hosts: Rig, tmp_path: Path
) -> None:
    """`--workdir` is the command's directory; `--checkpoint-dir` is saved although the command knows no variable."""
    workdir = tmp_path / "project"
    (workdir / "pkg").mkdir(parents=True)
    (workdir / "pkg" / "data.txt").write_text("payload")
    (workdir / "run.sh").write_text("cat pkg/data.txt; mkdir -p out/ckpt; echo 1 > out/ckpt/model\n")
    [job_id] = hosts.submit("sh run.sh", workdir=str(workdir), checkpoint_dir="out/ckpt")
    hosts.drain()
    assert hosts.output(job_id) == b"payload"
    saved = hosts.home.checkpoints / f"j{job_id}" / "1" / "files" / "model"
    assert saved.read_text() == "1\n"


def test_scaling_by_hand(hosts: Rig) -> None:
    """`scale up` rents without any job, the machine stays for its idle time, `scale down` gives it back."""
    with hosts.engine(idle_timeout_sec=600):
        hosts.db.write(commands.scale_up, 2, hosts.settings, user="tester", now=1)
        until(lambda: [worker.state for worker in hosts.workers()].count("idle") == 2)
        hosts.command(commands.scale_down, 1)
        until(lambda: [worker.state for worker in hosts.workers()].count("released") == 1)
        hosts.command(commands.scale_down, 1)
        until(lambda: [worker.state for worker in hosts.workers()].count("released") == 2)


def test_a_cap_that_was_lowered_is_kept_again_while_the_queue_lasts(hosts: Rig) -> None:
    """Machines beyond the new cap finish their job, take no other, and go back."""
    dear = tuple(replace(host, price_per_hour=0.5) for host in hosts.settings.providers.ssh.hosts)
    hosts.settings = replace(hosts.settings, providers=ProvidersConfig(ssh=SshConfig(hosts=dear)))
    hosts.submit("sleep 0.5", 400)
    with hosts.engine(max_hourly_budget=2.0, max_price_per_gpu=1.0):
        until(lambda: sum(job.state == "running" for job in hosts.jobs()) == 2)
    with hosts.engine(max_hourly_budget=0.6, max_price_per_gpu=1.0, exit_when_idle=True) as engine:
        until(lambda: sum(worker.rate for worker in hosts.workers() if worker.ended_at is None) <= 600_000)
        assert any(job.state == "pending" for job in hosts.jobs())
        engine.stop(at_once=True)
        assert engine.wait(PATIENCE_SEC)


def test_the_engine_ends_with_its_thread(hosts: Rig) -> None:
    """Leaving the block detaches within a moment and leaves jobs running."""
    [job_id] = hosts.submit(f"{WAIT} echo end")
    with hosts.engine() as engine:
        until(lambda: hosts.job(job_id).state == "running")
    assert isinstance(engine, Engine)
    assert not engine.alive
    assert hosts.job(job_id).state == "running"
    hosts.gate.touch()
    hosts.drain()
    assert hosts.output(job_id) == b"end\n"
    assert hosts.job(job_id).attempt == 1
