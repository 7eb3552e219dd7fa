"""What well-known libraries write is stored whole, of one moment, whenever the look falls into their writing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpuscale_tui.model.settings import CheckpointConfig
from gpuscale_tui.store import snapshots
from gpuscale_tui.store.checkpoints import Snapshot, SnapshotStore
from tests.engine.conftest import Rig, hosts_rig, until
from tests.sshd import sshd_missing

pytestmark = [pytest.mark.openssh]
SCRIPT = Path(__file__).with_name("habits.py")
IMITATED = ("in_place", "renamed", "trainer", "lightning", "sharded")
TORCH = os.environ.get("GPUSCALE_TORCH_PYTHON", "")
WANTED = 2
"""Snapshots of each job before it may end."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, Path]]:
    """All of them at once, each on a host of its own, looked at every second."""
    if sshd_missing() is not None:
        pytest.skip(str(sshd_missing()))
    place = tmp_path_factory.mktemp("habits")
    versions = place / "versions"
    versions.mkdir()
    habits = (*IMITATED, "torch_save") if TORCH else IMITATED
    with hosts_rig(place, count=len(habits)) as rig:
        rig.settings = replace(
            rig.settings, checkpoints=CheckpointConfig(interval_sec=1, settle_sec=1.5, keep=1000)
        )  # fmt: skip
        for habit in habits:
            python = TORCH if habit == "torch_save" else sys.executable
            rig.submit(f"exec {python} {SCRIPT} {habit}", env={"VERSIONS": str(versions)}, name=habit)
        with rig.engine(max_workers=len(habits), exit_when_idle=True) as engine:
            until(lambda: all(enough(rig, job) for job in range(1, len(habits) + 1)), 200)
            rig.gate.touch()
            assert engine.wait(100)
        yield rig, versions


def enough(rig: Rig, job_id: int) -> bool:
    kinds = [row.kind for row in rig.db.read(snapshots.snapshots, job_id)]
    return kinds.count("interval") >= WANTED


def taken(rig: Rig, habit: str) -> list[Snapshot]:
    job_id = (*IMITATED, "torch_save").index(habit) + 1
    assert rig.job(job_id).state == "done", rig.output(job_id).decode()
    found = SnapshotStore(rig.home.checkpoints).snapshots(job_id)
    assert [each.fault for each in found] == [None] * len(found)
    assert all(not each.name.endswith((".tmp", ".part")) for one in found[1:] for each in one.files)
    return found


def whole(written: tuple[Rig, Path], habit: str, *, but: tuple[str, ...] = ()) -> list[Snapshot]:
    """The snapshots of a habit, every file of which is as its writer finished it."""
    rig, versions = written
    finished = set((versions / habit).read_text().split())
    found = taken(rig, habit)
    for each in found:
        for entry in each.files:
            if entry.kind == "file" and not entry.name.startswith(but or ("\0",)):
                data = (each.files_path / entry.name).read_bytes()
                assert hashlib.sha256(data).hexdigest() == entry.sha256
                assert entry.sha256 in finished, f"{entry.name} of snapshot {each.number} is half written"
    return found


def test_torch_save_overwrites_one_file(written: tuple[Rig, Path]) -> None:
    found = whole(written, "in_place")
    assert len({each.files[0].sha256 for each in found}) == len(found), "nothing is stored twice"


def test_beside_and_renamed(written: tuple[Rig, Path]) -> None:
    assert {entry.name for each in whole(written, "renamed") for entry in each.files} == {"best.pt"}


def test_a_trainers_directories_are_there_whole_or_not_at_all(written: tuple[Rig, Path]) -> None:
    for each in whole(written, "trainer", but=("events",)):
        names = {entry.name for entry in each.files if entry.kind == "file"}
        folders = {name.split("/")[0] for name in names if "/" in name}
        assert folders
        for folder in folders:
            assert {f"{folder}/{name}" for name in ("model.safetensors", "optimizer.pt", "trainer_state.json")} <= names
            state = json.loads((each.files_path / folder / "trainer_state.json").read_text())
            assert f"checkpoint-{state['global_step']}" == folder
        step = max(int(folder.partition("-")[2]) for folder in folders)
        assert each.meta.step == step, "the step that its name tells"


def test_lightnings_link_leads_to_what_is_there(written: tuple[Rig, Path]) -> None:
    links = 0
    for each in whole(written, "lightning"):
        names = {entry.name: entry for entry in each.files}
        link = names.get("last.ckpt")  # for an instant there is none, as Lightning does it
        assert link is None or (link.kind == "link" and link.target in names)
        links += link is not None
    assert links


def test_shards_are_there_with_their_index_or_not_at_all(written: tuple[Rig, Path]) -> None:
    for each in whole(written, "sharded"):
        folders: dict[str, int] = {}
        for entry in each.files:
            if entry.kind == "file":
                folder = entry.name.split("/")[0]
                folders[folder] = folders.get(folder, 0) + 1
        assert set(folders.values()) == {4}


@pytest.mark.skipif(not TORCH, reason="GPUSCALE_TORCH_PYTHON names no Python with PyTorch")
def test_what_torch_itself_wrote_it_reads_again(written: tuple[Rig, Path]) -> None:
    found = taken(written[0], "torch_save")
    code = "import sys, torch\nfor p in sys.argv[1:]: d = torch.load(p); assert float(d['w'][-1]) == d['step']"
    paths = [str(each.files_path / "model.pt") for each in found]
    subprocess.run([TORCH, "-c", code, *paths], check=True, timeout=200)
