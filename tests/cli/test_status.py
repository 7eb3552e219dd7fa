"""`status` and `stop`."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.store import engines, wallets
from gpuscale_tui.store.engines import Limits
from tests.cli.conftest import PATIENCE_SEC, Cli
from tests.store.support import DOLLAR, Bench


def until(probe: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SEC
    while not probe():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def begin(bench: Bench) -> None:
    bench.write(engines.begin_epoch, 4242, "autopilot", Limits(7 * DOLLAR, 3), int(time.time() * 1000))


def test_the_json_of_the_status(cli: Cli, bench: Bench) -> None:
    """Every stable key; all states are counted, also those with none."""
    bench.submit(2)
    bench.worker_in(WorkerState.BUSY)
    bench.order(500_000)
    cli.config.write_text("[scaler]\nmax_hourly_budget = 3.5\n")
    found = cli.json("status")
    assert found["engine"]["running"] is False
    assert {"running", "pid", "mode", "epoch"} <= found["engine"].keys()
    assert found["jobs"] == {"pending": 2, "running": 1, "done": 0, "failed": 0, "cancelled": 0}
    assert list(found["workers"]) == [state.value for state in WorkerState]
    assert (found["workers"]["busy"], found["workers"]["ordering"]) == (1, 1)
    assert found["spend"] == {"used": 1.0, "reserved": 0.5, "cap": 3.5, "today": 0.0, "month": 0.0}


def test_what_is_left_to_pay_with(cli: Cli, bench: Bench) -> None:
    """By provider, with the hours that it lasts at the present rate; nothing where no wallet was read."""
    assert cli.json("status")["wallets"] == []
    bench.worker_in(WorkerState.BUSY)
    bench.write(wallets.record, "clore", "USD-Blockchain", 5 * DOLLAR, int(time.time() * 1000))
    (found,) = cli.json("status")["wallets"]
    assert (found["provider"], found["wallet"], found["low"]) == ("clore", "USD-Blockchain", False)
    assert abs(found["left_usd"] - 5) < 0.5
    assert abs(found["hours_left"] - 5) < 0.5
    bench.write(wallets.set_low, "clore", 1)
    shown = cli("status").stdout
    assert "in USD-Blockchain" in shown
    assert "which is low" in shown


def test_the_cap_of_a_running_engine_is_in_force(cli: Cli, bench: Bench) -> None:
    """Not the settings', which may have changed since; the lock says whether it runs."""
    cli.config.write_text("[scaler]\nmax_hourly_budget = 3.5\n")
    begin(bench)
    assert cli.json("status")["spend"]["cap"] == 3.5
    with cli.engine():
        found = cli.json("status")
        assert found["spend"]["cap"] == 7.0
        assert (found["engine"]["running"], found["engine"]["mode"], found["engine"]["epoch"]) == (True, "autopilot", 1)
        assert "autopilot, pid" in cli("status").stdout


def test_an_engine_that_is_just_starting(cli: Cli, bench: Bench) -> None:
    """It holds the lock and has not written its cap yet: the settings' one is shown, not none."""
    cli.config.write_text("[scaler]\nmax_hourly_budget = 3.5\n")
    with cli.engine():
        assert cli.json("status")["spend"]["cap"] == 3.5


def test_stop_ends_a_real_engine(cli: Cli) -> None:
    """Asked for through the store, waited for by its lock."""
    cli.config.write_text("[scaler]\npoll_interval_sec = 0.2\n")
    with cli.start("--autopilot") as engine:
        until(lambda: cli.json("status")["engine"]["mode"] == "autopilot")
        assert cli.json("status")["engine"]["pid"] == engine.pid
        code, out, err = cli.run("stop")
        assert (code, out) == (0, b"the engine has ended; nothing is rented\n"), err
        assert engine.wait(PATIENCE_SEC) == 0
        assert engine.stdout is not None
        assert b'"kind": "end"' in engine.stdout.read()


def test_an_engine_without_a_sign_of_life(cli: Cli, bench: Bench) -> None:
    """It holds the lock, but has not written for long."""
    bench.write(engines.begin_epoch, 4242, "screen", Limits(DOLLAR, 3), int(time.time() * 1000) - 600_000)
    with cli.engine():
        assert "without a sign of life for 10m" in cli("status").stdout


def test_wrong_settings_do_not_hide_the_status(cli: Cli, bench: Bench) -> None:
    """What is rented must be seen; the cap is unknown then."""
    bench.idle()
    cli.config.write_text("nonsense = 1\n")
    result = cli("status")
    assert result.exit_code == 0
    assert "$1.00/h used and $0.00/h reserved of an unknown cap" in result.stdout
    assert "nonsense: found an unknown key" in result.stderr
    assert cli.json("status")["spend"]["cap"] is None


def test_stop_without_an_engine(cli: Cli, bench: Bench) -> None:
    """Exit code 3, and nothing is asked of the next one."""
    result = cli("stop")
    assert result.exit_code == 3
    assert "no engine runs" in result.stderr
    assert bench.read(engines.open_requests) == []


def test_stop_without_an_engine_says_what_still_costs(cli: Cli, bench: Bench) -> None:
    """And how to give it back."""
    bench.idle(DOLLAR)
    result = cli("stop", "--now")
    assert result.exit_code == 3
    assert "1 machine may still cost $1.00/h" in result.stderr
    assert "gpuscale reap --all-ours" in result.stderr


def test_stop_waits_until_the_engine_has_ended(cli: Cli, bench: Bench) -> None:
    """Telling how far it is."""
    worker = bench.idle()
    with cli.engine() as lock, cli.start("stop", "--now") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"stopping: 0 jobs running, 1 machine rented, $1.00/h still runs\n"
        (request,) = bench.read(engines.open_requests)
        assert request.kind == "stop_now"
        bench.db.connection.execute("UPDATE workers SET state = 'released', ended_at = 1 WHERE id = ?", (worker.id,))
        assert process.stderr.readline() == b"stopping: 0 jobs running, 0 machines rented\n"
        assert process.poll() is None
        lock.release()
        assert process.wait(PATIENCE_SEC) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b"the engine has ended; nothing is rented\n"


def test_stop_tells_of_machines_that_are_left(cli: Cli, bench: Bench) -> None:
    """An engine that died leaves them: exit code 1, with the price."""
    bench.idle(DOLLAR)
    with cli.engine() as lock, cli.start("stop") as process:
        until(lambda: bench.read(engines.open_requests))
        lock.release()
        assert process.wait(PATIENCE_SEC) == 1
        assert process.stderr is not None
        assert b"1 machine may still cost $1.00/h" in process.stderr.read()


def test_ctrl_c_ends_only_the_waiting(cli: Cli, bench: Bench) -> None:
    """The engine goes on ending."""
    bench.submit()
    with cli.engine(), cli.start("stop") as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SEC) == 130
        assert b"the engine goes on stopping" in process.stderr.read()
    assert len(bench.read(engines.open_requests)) == 1
