"""Opening a home's database: made, migrated, refused, and never harmed."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import database, jobs, logs, opening
from gpuscale_tui.store.database import Database, StoreError, connect
from gpuscale_tui.store.opening import open_file, user_version
from gpuscale_tui.store.rows import spec_columns
from tests.store.support import T0, Bench, spec

NEXT = replace(
    database.SCHEMA,
    migrations=(
        *database.SCHEMA.migrations,
        "CREATE TABLE extra (value TEXT NOT NULL) STRICT;\nINSERT INTO extra SELECT name FROM jobs;",
        "ALTER TABLE extra ADD COLUMN at INTEGER;",
    ),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "gpuscale.db"


def filled(path: Path) -> Path:
    """A database with one job, closed."""
    with Database(path) as db:
        db.write(jobs.insert, [spec(name="first")], T0)
    return path


def contents(directory: Path) -> dict[str, bytes]:
    """Every file of a home, byte for byte."""
    return {entry.name: entry.read_bytes() for entry in directory.iterdir() if entry.is_file()}


@pytest.mark.parametrize("schema", [database.SCHEMA, logs.SCHEMA], ids=["main", "logs"])
def test_a_new_file_is_ours_whole_and_private(path: Path, schema: opening.Schema) -> None:
    previous = os.umask(0)
    try:
        connection = open_file(path, schema, readonly=False)
    finally:
        os.umask(previous)
    with closing(connection):
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1
        assert user_version(connection) == schema.version
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("COMMIT")
        modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
        assert modes == {"gpuscale.db": 0o600, "gpuscale.db-wal": 0o600, "gpuscale.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_must_survive_power_loss_is_flushed_at_each_commit(path: Path) -> None:
    with closing(connect(path)) as main, closing(logs.connect_logs(path.with_name("logs.db"))) as output:
        assert main.execute("PRAGMA synchronous").fetchone()[0] == 2, "FULL"
        assert output.execute("PRAGMA synchronous").fetchone()[0] == 1, "NORMAL"


def test_all_tables_are_strict(path: Path) -> None:
    for schema, name in ((database.SCHEMA, "a.db"), (logs.SCHEMA, "b.db")):
        with closing(open_file(path.with_name(name), schema, readonly=False)) as connection:
            loose = connection.execute(
                "SELECT name FROM pragma_table_list WHERE strict = 0 AND name NOT LIKE 'sqlite_%'"
            )
            assert loose.fetchall() == []


def test_foreign_keys_hold(bench: Bench) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        bench.db.connection.execute("INSERT INTO ledger (at, worker_id, amount) VALUES (1, 99, 1)")


def _insert_as_then(connection: sqlite3.Connection, kept: JobSpec) -> None:
    """Submit a job as the program of that version did: with the columns that there were."""
    known = {row[1] for row in connection.execute("PRAGMA table_info(jobs)")}
    given = {name: value for name, value in spec_columns(kept).items() if name in known}
    row = {**given, "state": "pending", "submitted_at": T0}
    marks = ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT INTO jobs ({', '.join(row)}) VALUES ({marks})", row)


@pytest.mark.parametrize("old", range(1, len(NEXT.migrations)))
def test_each_older_version_is_brought_up_to_date(path: Path, old: int) -> None:
    older = replace(NEXT, migrations=NEXT.migrations[:old])
    with closing(open_file(path, older, readonly=False)) as connection:
        _insert_as_then(connection, spec(name="kept"))
    with closing(open_file(path, NEXT, readonly=False)) as connection:
        assert user_version(connection) == NEXT.version
        assert connection.execute("SELECT name FROM jobs").fetchone()[0] == "kept"
        extra = connection.execute("SELECT count(*) FROM extra").fetchone()[0]
        assert extra == (0 if old == len(NEXT.migrations) - 1 else 1)


def test_a_reader_of_an_older_file_sees_the_new_tables(path: Path) -> None:
    filled(path)
    with closing(open_file(path, NEXT, readonly=True)) as connection:
        assert connection.execute("SELECT value FROM extra").fetchone()[0] == "first"
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM extra")


def test_a_migration_that_fails_leaves_the_version_before_it(path: Path) -> None:
    filled(path)
    broken = replace(NEXT, migrations=(*NEXT.migrations[:-1], "CREATE TABLE t (x TEXT) STRICT;\nSELECT no_such_thing;"))
    with pytest.raises(StoreError, match="no such column"):
        open_file(path, broken, readonly=False)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == NEXT.version - 1
        assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 't'").fetchone()[0] == 0


def test_two_programs_migrating_at_once_do_it_once(path: Path) -> None:
    filled(path)
    with closing(connect(path)) as first, closing(connect(path)) as second:
        opening.migrate(first, NEXT)
        opening.migrate(second, NEXT)
        assert second.execute("SELECT count(*) FROM extra").fetchone()[0] == 1


@pytest.mark.parametrize("readonly", [True, False])
def test_a_newer_file_is_refused_and_left_alone(path: Path, readonly: bool) -> None:
    filled(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    before = contents(path.parent)
    with pytest.raises(StoreError, match=r"newer gpuscale \(schema 999, this program knows \d+\)\. Upgrade gpuscale"):
        connect(path, readonly=readonly)
    assert contents(path.parent)["gpuscale.db"] == before["gpuscale.db"]


def test_a_newer_file_whose_version_is_still_in_the_journal_is_refused_and_left_alone(path: Path) -> None:
    filled(path)
    script = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1])\n"
        "c.execute('PRAGMA user_version = 999')\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    before = contents(path.parent)
    assert len(before["gpuscale.db-wal"]) > 0
    with pytest.raises(StoreError, match="newer"):
        connect(path)
    after = contents(path.parent)
    assert (after["gpuscale.db"], after["gpuscale.db-wal"]) == (before["gpuscale.db"], before["gpuscale.db-wal"])


def damage_nothing_there(data: bytes) -> bytes:
    return b""


def damage_other_kind(data: bytes) -> bytes:
    return b"this is no database, whatever its name says\n" * 100


def damage_header(data: bytes) -> bytes:
    return b"\xff" * 100 + data[100:]


def damage_first_page(data: bytes) -> bytes:
    return data[:100] + b"\xff" * 3000 + data[3100:]


def damage_cut_short(data: bytes) -> bytes:
    return data[:5000]


DAMAGES = [damage_nothing_there, damage_other_kind, damage_header, damage_first_page, damage_cut_short]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("readonly", [True, False])
def test_a_damaged_file_is_refused_and_left_byte_for_byte(path: Path, damage: object, readonly: bool) -> None:
    data = filled(path).read_bytes()
    path.write_bytes(damage(data))  # type: ignore[operator]
    before = path.read_bytes()
    with pytest.raises(StoreError) as caught:
        connect(path, readonly=readonly)
    assert "restore it from a backup" in str(caught.value)
    assert "give them back by hand" in str(caught.value), "what beginning anew would mean"
    assert path.read_bytes() == before


def test_a_journal_without_its_database_is_not_begun_anew(path: Path) -> None:
    filled(path)
    with closing(connect(path)) as connection:
        database.transact(connection, None, jobs.insert, [spec()], T0)
        path.rename(path.with_name("moved"))
        assert (path.with_name("gpuscale.db-wal")).stat().st_size > 0
        with pytest.raises(StoreError, match=r"it is missing, but gpuscale\.db-wal is there"):
            connect(path)
        assert not path.exists()


def test_another_programs_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        connect(path)
    assert path.read_bytes() == before


def test_the_main_file_is_not_taken_for_the_logs(path: Path) -> None:
    with pytest.raises(StoreError, match="another program"):
        logs.connect_logs(filled(path))


def test_reading_needs_a_file(path: Path) -> None:
    with pytest.raises(StoreError, match="no such file yet"):
        connect(path, readonly=True)
    assert not path.parent.exists()


def test_a_directory_in_the_way_is_named(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match=r"gpuscale\.db: cannot be opened"):
        connect(path)


AS_NOBODY = """
import os, sys
from pathlib import Path
from gpuscale_tui.store.database import connect, StoreError
if os.getuid() == 0:  # root may write anywhere
    os.setgid(65534)
    os.setuid(65534)
try:
    connect(Path(sys.argv[1]), readonly=sys.argv[2] == "ro")
    print("opened")
except StoreError as error:
    print(error)
"""


@pytest.fixture
def open_to_all(tmp_path: Path) -> Path:
    """A directory that another user can reach."""
    place = tmp_path / "shared"
    place.mkdir()
    for parent in (place, *place.parents):
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    return place


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_a_directory_that_may_not_be_written_is_reported(open_to_all: Path, mode: str) -> None:
    path = filled(open_to_all / "home" / "gpuscale.db")
    path.chmod(0o644)
    path.parent.chmod(0o555)
    try:
        said = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(path), mode], capture_output=True, text=True, check=True
        ).stdout
    finally:
        path.parent.chmod(0o755)
    assert f"{path}: cannot be opened" in said
    assert "Check the directory's owner, its mode and the disk" in said


def test_a_new_home_where_none_may_be_made_is_reported(open_to_all: Path) -> None:
    open_to_all.chmod(0o555)
    try:
        said = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(open_to_all / "home" / "gpuscale.db"), "rw"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    finally:
        open_to_all.chmod(0o755)
    assert "Permission denied" in said
    assert "Check the directory's owner" in said


def test_an_old_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 39, 9))
    with pytest.raises(StoreError, match=r"SQLite 3\.40 or newer is needed"):
        connect(path)


def test_a_command_that_fails_is_undone_and_the_connection_goes_on(bench: Bench) -> None:
    def half(connection: sqlite3.Connection) -> None:
        jobs.insert(connection, [spec()], T0)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        bench.write(half)
    assert bench.value("SELECT count(*) FROM jobs") == 0
    assert bench.submit() == [1]


def test_a_read_sees_one_state_throughout(bench: Bench) -> None:
    def count_twice(connection: sqlite3.Connection) -> tuple[int, int]:
        first = connection.execute("SELECT count(*) FROM jobs").fetchone()[0]
        with Database(bench.path) as other:
            other.write(jobs.insert, [spec()], T0)
        return first, connection.execute("SELECT count(*) FROM jobs").fetchone()[0]

    assert bench.read(count_twice) == (0, 0)
    assert bench.value("SELECT count(*) FROM jobs") == 1
