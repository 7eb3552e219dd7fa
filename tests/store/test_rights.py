"""Several people on one bastion: private homes, and homes that a group shares. Real modes, and a real second user."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuscale_tui.engine.lock import EngineLock
from gpuscale_tui.remote.keys import ensure_client_key
from gpuscale_tui.rights import is_shared, make_directory, private_opener, settle
from gpuscale_tui.store.checkpoints import SnapshotMeta, SnapshotStore
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.logs import connect_logs
from gpuscale_tui.store.secrets import read_job_secrets, write_job_secrets

PATIENCE_SEC = 120
GROUP, OTHER_USER, STRANGER = 64_111, 64_222, 64_333
MEMBER = """
import asyncio, getpass, os, sys
from pathlib import Path
from gpuscale_tui.engine.lock import EngineLock
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.secrets import read_job_secrets, write_job_secrets
home, group, user = sys.argv[1:]  # from here on as somebody else, who may not even see the modules above
os.setgroups([int(group)] if group != "0" else [])
os.setgid(int(user)); os.setuid(int(user)); os.umask(0o077)
home = Home(Path(home))
home.ensure()
with EngineLock(home), Database(home.database) as db:
    db.write(lambda connection: connection.execute("INSERT INTO meta VALUES ('said by', 'a member')"))
    print(read_job_secrets(home, 1)["TOKEN"])
    write_job_secrets(home, 2, {"TOKEN": "theirs"})
"""


@pytest.fixture(params=[0o022, 0o077, 0o000], ids=["usual", "strict", "none"])
def any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Modes are ours to say, whatever the umask."""
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users may walk through, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)
        yield Path(made)


def fill(home: Home) -> None:
    """Something of everything that a home holds."""
    home.ensure()
    ensure_client_key(home.client_key)
    write_job_secrets(home, 1, {"TOKEN": "ours"})
    connect_logs(home.logs).close()
    snapshots = SnapshotStore(home.checkpoints)
    draft = snapshots.begin(1)
    (draft.path / "deep" / "er").mkdir(parents=True)
    (draft.path / "deep" / "er" / "weights").write_text("0.5")
    snapshots.commit(draft, {"deep/er/weights": 0o644}, SnapshotMeta(1, 1, 1, 0))
    with open(home.engine_log, "a", encoding="utf-8", opener=private_opener) as log:
        log.write("begun\n")


def others(home: Home, directories: int, files: int) -> dict[str, str]:
    """What in a home has other modes than these."""
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (home.path, *home.path.rglob("*"))}
    return {str(path): oct(mode) for path, mode in found.items() if mode != (directories if path.is_dir() else files)}


def shared_home(tmp_path: Path, group: int | None = None) -> Home:
    home = Home(tmp_path / "lab")
    home.path.mkdir()
    if group is not None:
        os.chown(home.path, -1, group)
    home.path.chmod(0o2770)
    return home


@pytest.mark.usefixtures("any_umask")
def test_a_home_is_its_users_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")
    fill(home)
    with EngineLock(home), Database(home.database) as db:
        db.write(lambda connection: connection.execute("INSERT INTO meta VALUES ('a', 'b')"))
        assert home.database.with_name("gpuscale.db-wal").exists()
        assert others(home, 0o700, 0o600) == {}


@pytest.mark.usefixtures("any_umask")
def test_a_home_that_was_made_for_a_group_is_the_groups(tmp_path: Path) -> None:
    """Nothing but the directory's own mode says so; SQLite's files beside the database follow it."""
    home = shared_home(tmp_path)
    fill(home)
    with EngineLock(home), Database(home.database) as db:
        db.write(lambda connection: connection.execute("INSERT INTO meta VALUES ('a', 'b')"))
        assert {path.name for path in home.path.glob("*.db-*")} >= {"gpuscale.db-wal", "gpuscale.db-shm"}
        assert others(home, 0o2770, 0o660) == {}


def test_a_private_home_that_its_owner_opens_to_a_group_later(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    fill(home)
    Database(home.database).close()
    home.path.chmod(0o2770)
    home.ensure()
    assert others(home, 0o2770, 0o660) == {}


def test_what_all_the_world_may_write_is_nobodys_group_home(tmp_path: Path) -> None:
    home = shared_home(tmp_path)
    home.path.chmod(0o2777)
    assert not is_shared(home.path)
    home.ensure()
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    link = home.path / "link"
    link.symlink_to("/etc/passwd")
    settle(link)  # nothing is done to what a link points at
    make_directory(home.path / "a" / "b")
    assert stat.S_IMODE((home.path / "a" / "b").stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two users")
def test_members_work_in_one_home_and_strangers_see_nothing(open_directory: Path) -> None:
    """Another uid of the group takes the lock, writes the store, and reads secrets; one outside cannot enter."""
    home = shared_home(open_directory, GROUP)
    fill(home)
    with Database(home.database) as db:
        member = become(home, GROUP, OTHER_USER)
        assert (member.returncode, member.stdout) == (0, "ours\n"), member.stderr
        row = db.read(lambda connection: connection.execute("SELECT value FROM meta WHERE key = 'said by'").fetchone())
        assert row["value"] == "a member"
        db.write(lambda connection: connection.execute("INSERT INTO meta VALUES ('after', 'them')"))
        assert others(home, 0o2770, 0o660) == {}
    assert read_job_secrets(home, 2) == {"TOKEN": "theirs"}
    assert {path.stat().st_gid for path in home.path.rglob("*")} == {GROUP}
    stranger = become(home, 0, STRANGER)
    assert stranger.returncode != 0
    assert "ours" not in stranger.stdout


def become(home: Home, group: int, user: int) -> subprocess.CompletedProcess[str]:
    """Another user's process works in this home."""
    command = [sys.executable, "-c", MEMBER, str(home.path), str(group), str(user)]
    source = str(Path(__file__).parent.parent.parent)
    return subprocess.run(
        command, env={"PYTHONPATH": source, "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=PATIENCE_SEC, check=False, cwd="/",
    )  # fmt: skip
