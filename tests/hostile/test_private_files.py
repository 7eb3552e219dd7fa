"""Several people on one computer: nothing that gpuscale keeps can be read, guessed or planted by another user."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gpuscale_tui.engine.lock import EngineLock
from gpuscale_tui.providers.registry import build_providers
from gpuscale_tui.store.home import Home
from tests.engine.conftest import Rig, hosts_rig, until
from tests.sshd import sshd_missing

PRODUCT = Path(__file__).resolve().parents[2] / "gpuscale_tui"
FIXED_PLACES = re.compile(r"""["'](?:/var)?/tmp(?:/|["'])|/dev/shm""")


def open_to_others(home: Path) -> list[str]:
    """What below a home others could open if its directory let them."""
    found = []
    for path in (home, *home.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and mode & 0o077:
            found.append(f"{path.relative_to(home)} {stat.S_IMODE(mode):04o}")
    return found


@pytest.mark.skipif(sshd_missing() is not None, reason=str(sshd_missing()))
def test_local_users_can_open_nothing_of_a_home(tmp_path: Path) -> None:
    """Whatever the umask: databases, logs, keys, secrets, checkpoints, socket, lock; while it runs and afterwards."""
    before = os.umask(0)
    try:
        with hosts_rig(tmp_path, 1) as rig:
            saved(rig)
            assert open_to_others(rig.home.path) == []
            kept = {path.name for path in rig.home.path.rglob("*") if path.is_file()}
            assert {"gpuscale.db", "logs.db", "id_ed25519", "j1.json", "manifest.json", "weights"} <= kept
    finally:
        os.umask(before)


def saved(rig: Rig) -> None:
    """A job with a secret that leaves a checkpoint; the socket and the journals are looked at while it runs."""
    command = 'echo x > "$CHECKPOINT_DIR/weights"; chmod 777 "$CHECKPOINT_DIR/weights"'
    rig.submit(command, secret_env={"API_TOKEN": "hidden"})
    with rig.engine(exit_when_idle=True) as engine:
        until(rig.home.doorbell.exists)
        assert stat.S_ISSOCK(rig.home.doorbell.stat().st_mode)
        assert open_to_others(rig.home.path) == []
        assert engine.wait(100)


def test_local_users_can_open_nothing_that_the_program_itself_makes(tmp_path: Path) -> None:
    """The real process under an open umask: settings, home, the log of a background engine."""
    home = tmp_path / "home"
    script = f"umask 0; {sys.executable} -m gpuscale_tui --home {home}"
    config = tmp_path / "settings" / "config.toml"
    subprocess.run(["sh", "-c", f"{script} config init --config {config}"], check=True, capture_output=True)
    subprocess.run(["sh", "-c", f"{script} submit --secret T=x -- true"], check=True, capture_output=True)
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert open_to_others(home) == []


def test_local_users_cannot_plant_a_lock(tmp_path: Path) -> None:
    """A link where the lock is to be is not followed."""
    home = Home(tmp_path / "home")
    home.ensure()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    home.lock.symlink_to(victim)
    with pytest.raises(OSError), EngineLock(home):
        pass
    assert victim.read_text() == "precious"


def test_local_users_find_no_fixed_names_in_shared_places() -> None:
    """No module of the product names a file in /tmp; temporary ones are made by tempfile, in the home."""
    for file in PRODUCT.rglob("*.py"):
        assert not FIXED_PLACES.search(file.read_text(encoding="utf-8")), file


def test_local_users_cannot_read_an_api_key_by_a_loose_file(tmp_path: Path) -> None:
    """A key file that others can read is refused before it is used."""
    from gpuscale_tui.model.errors import FieldError
    from gpuscale_tui.model.settings import CloreConfig, ProvidersConfig, Settings

    key = tmp_path / "key"
    key.write_text("canary-key")
    key.chmod(0o640)
    settings = Settings(providers=ProvidersConfig(clore=CloreConfig(enabled=True, api_key_file=str(key))))
    with pytest.raises(FieldError, match="chmod 600") as refused:
        build_providers(settings, state_dir=tmp_path / "providers", environ={})
    assert "canary-key" not in str(refused.value)


def test_local_users_have_no_port_to_talk_to() -> None:
    """The engine listens on a socket in its private directory only: no module of it opens a port."""
    for file in (PRODUCT / "engine").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"start_server|create_server|\.listen\(|AF_INET", text), file
