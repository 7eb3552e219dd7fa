"""A full disk stops new work with a clear message and loses nothing that was acknowledged."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuscale_tui.store.opening import StoreFull
from tests.engine.conftest import PATIENCE_SEC, WAIT, hosts_rig, until
from tests.sshd import sshd_missing

pytestmark = pytest.mark.openssh


@contextlib.contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[None]:
    """A file system of its own with little room."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_full_disk_is_survived(tmp_path: Path) -> None:
    """Output that cannot be stored is fetched again, once there is room; a submission says what is wrong."""
    if sshd_missing() is not None:
        pytest.skip(str(sshd_missing()))
    with small_disk(tmp_path / "home", 3), hosts_rig(tmp_path) as rig:
        output = "head -c 20000 /dev/zero | od -v | head -c 50000; echo end"
        ids = [*rig.submit(output), *rig.submit(f"{WAIT} {output}", 5)]
        with rig.engine(exit_when_idle=True) as engine:
            until(lambda: rig.job(ids[0]).state == "done")
            filler = rig.home.path / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(4096))
            (tmp_path / "gate").touch()
            time.sleep(2)  # there is no room meanwhile for what the jobs print
            with pytest.raises(StoreFull, match="the disk is full"):
                rig.submit(f"echo {'x' * 1000}", 5000)
            assert engine.alive
            filler.unlink()
            assert engine.wait(PATIENCE_SEC)
        assert [(rig.job(job_id).state, rig.job(job_id).attempt) for job_id in ids] == [("done", 1)] * 6
        outputs = {rig.output(job_id) for job_id in ids}
        assert len(outputs) == 1
        assert outputs.pop().endswith(b"end\n")
