"""The program killed while it writes, and disks that fill: nothing acknowledged is lost, and files stay sound."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gpuscale_tui.store import jobs, logs, queries
from gpuscale_tui.store.database import Database, connect
from tests.store.support import T0, spec

WRITER = """
import sys
from pathlib import Path
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import jobs, logs
from gpuscale_tui.store.database import Database
home = Path(sys.argv[1])
with Database(home / "gpuscale.db") as db:
    output = logs.connect_logs(home / "logs.db")
    position = logs.size(output, 1, 1)
    while True:
        ids = db.write(jobs.insert, [JobSpec(image="img", command="x")] * 3, 1)
        position = logs.append(output, 1, 1, position, (b"%09d\\n" % position) * 900)
        print(ids[-1], position, flush=True)
"""


def start(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(home)], stdout=subprocess.PIPE, text=True)


def _numbers(line: str) -> tuple[int, int]:
    """The last job and the last byte that the writer acknowledged."""
    job, position = line.split()
    return int(job), int(position)


def test_killed_again_and_again_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    for round_number in range(6):
        writer = start(tmp_path)
        assert writer.stdout is not None
        for _ in range(1 + round_number * 7):
            acknowledged = _numbers(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        job, position = max(acknowledged, _drain(writer))
        with Database(tmp_path / "gpuscale.db") as db, closing(logs.connect_logs(tmp_path / "logs.db")) as output:
            stored = db.read(queries.job_ids)
            assert stored[:job] == list(range(1, job + 1))
            assert len(stored) % 3 == 0, "a batch is there as a whole or not at all"
            assert db.read(queries.events_count) == len(stored)
            assert logs.size(output, 1, 1) >= position
            assert logs.size(output, 1, 1) % 9000 == 0
            for connection in (db.connection, output):
                assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
                assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            check_log(output)


def _drain(writer: subprocess.Popen[str]) -> tuple[int, int]:
    """What a killed writer had acknowledged last."""
    rest, _ = writer.communicate(timeout=90)
    whole = rest.split("\n")[:-1]
    return _numbers(whole[-1]) if whole else (0, 0)


def check_log(output: sqlite3.Connection) -> None:
    """Every line says at which byte its append began."""
    count = logs.line_count(output, 1, 1)
    assert count == logs.size(output, 1, 1) // 10
    for first in range(0, count, 900):
        assert set(logs.lines(output, 1, 1, first, 900)) == {b"%09d" % (first * 10)}


FILLER = """
import resource, signal, sys
from pathlib import Path
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import jobs, logs
from gpuscale_tui.store.database import Database
home, room = Path(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
db = Database(home / "gpuscale.db")
output = logs.connect_logs(home / "logs.db")
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
done = position = 0
while sys.argv[3] == "jobs":
    try:
        done = db.write(jobs.insert, [JobSpec(image="img", command="x" * 900)] * 20, 1)[-1]
    except GpuscaleError as error:
        print(done, error)
        print(db.read(lambda c: c.execute("SELECT count(*) FROM jobs").fetchone()[0]))
        break
while sys.argv[3] == "logs":
    try:
        position = logs.append(output, 1, 1, position, bytes(i * i % 251 for i in range(position, position + 50_000)))
    except GpuscaleError as error:
        print(position, error)
        print(logs.size(output, 1, 1))
        break
"""


@pytest.mark.parametrize("what", ["jobs", "logs"])
@pytest.mark.parametrize("room", [150_000, 1_000_000, 3_000_000])
def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path, what: str, room: int) -> None:
    """A limit on the size of files stands for the disk: writes beyond it fail as on a full one."""
    Database(tmp_path / "gpuscale.db").close()
    with closing(logs.connect_logs(tmp_path / "logs.db")):
        pass
    said = subprocess.run(
        [sys.executable, "-c", FILLER, str(tmp_path), str(room), what], capture_output=True, text=True, timeout=90
    )
    assert said.returncode == 0, said.stderr
    first, count = said.stdout.splitlines()
    acknowledged, message = first.split(" ", 1)
    assert "check the disk and its room" in message or "the disk is full" in message
    assert int(count) == int(acknowledged), "still readable, and nothing of the failed command is in it"
    with Database(tmp_path / "gpuscale.db") as db, closing(logs.connect_logs(tmp_path / "logs.db")) as output:
        stored = db.read(queries.count_jobs) if what == "jobs" else logs.size(output, 1, 1)
        assert stored == int(acknowledged) > 0
        for connection in (db.connection, output):
            assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert db.write(jobs.insert, [spec()], T0), "with room again, work goes on"
        assert logs.append(output, 1, 1, logs.size(output, 1, 1), b"x") == logs.size(output, 1, 1)


def test_no_database_is_made_where_nothing_can_be_written(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from gpuscale_tui.model.errors import GpuscaleError\n"
        "from gpuscale_tui.store.database import connect\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))\n"
        "try:\n"
        "    connect(Path(sys.argv[1]))\n"
        "except GpuscaleError as error:\n"
        "    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", script, str(tmp_path / "gpuscale.db")], capture_output=True, text=True)
    assert "cannot be opened" in said.stdout, said.stderr
    assert list(tmp_path.iterdir()) == [], "no half-made file is left to be taken for a database"
    connect(tmp_path / "gpuscale.db").close()
