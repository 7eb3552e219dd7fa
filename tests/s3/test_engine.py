"""An engine whose snapshots are in object storage; what is told of it, and what must never be."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gpuscale_tui.cli.root import root
from gpuscale_tui.config import ConfigError, load
from gpuscale_tui.engine import checkpoints
from gpuscale_tui.engine.doctor import check_storage
from gpuscale_tui.engine.redaction import MARK, Redactor, known_secrets
from gpuscale_tui.engine.s3_places import storage_secrets
from gpuscale_tui.model.objects import S3Place
from gpuscale_tui.model.settings import CheckpointConfig, Settings
from gpuscale_tui.store import snapshots
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.s3_bucket import Bucket
from tests.engine.conftest import PATIENCE_SEC, Rig, hosts_rig, until
from tests.s3.server import BUCKET, KEY_ID, SECRET, Asked, Service
from tests.sshd import sshd_missing

TRAIN = """
if [ -n "$GPUSCALE_RESUME_FROM" ]; then cksum < "$GPUSCALE_RESUME_FROM/model.bin"; exit 0; fi
head -c 200000 /dev/urandom > "$CHECKPOINT_DIR/part"
cksum < "$CHECKPOINT_DIR/part"
mv "$CHECKPOINT_DIR/part" "$CHECKPOINT_DIR/model.bin"
until [ -e "$GATE" ]; do sleep 0.05; done
"""
TELLING = (SECRET.encode(), KEY_ID.encode(), b"X-Amz-Signature")


@pytest.fixture
def rig(tmp_path: Path, service: Service) -> Iterator[Rig]:
    reason = sshd_missing()
    if reason is not None:
        pytest.skip(reason)
    with hosts_rig(tmp_path) as made:
        kept = CheckpointConfig(
            interval_sec=1, settle_sec=0.1, grace_sec=1, s3=f"s3://{BUCKET}/home", s3_endpoint=service.endpoint
        )
        made.settings = replace(made.settings, checkpoints=kept)
        yield made


def telling_processes() -> list[bytes]:
    """Command lines of running programs that tell a secret."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if any(secret in line for secret in TELLING):
            found.append(line)
    return found


@pytest.mark.openssh
def test_a_job_moves_and_nothing_tells_a_secret(rig: Rig, service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    told: list[bytes] = []

    def look(asked: Asked) -> None:
        if asked.signed_url:  # now the program that sends or fetches is there
            told.extend(telling_processes())

    with subprocess.Popen([sys.executable, "-c", "input()", SECRET], stdin=subprocess.PIPE) as shown:
        until(telling_processes)  # it would be seen
        shown.communicate(b"\n")
    service.rules.append(look)  # type: ignore[arg-type]
    [job] = rig.submit(TRAIN)
    with rig.engine() as engine:
        until(lambda: rig.db.read(snapshots.kept, job))
        engine.stop(at_once=True)
        assert engine.wait(PATIENCE_SEC)
        assert engine.failure is None
    carried = service.sent(signed_url=False)
    rig.drain()
    assert rig.job(job).state == "done"
    first, second = rig.output(job, 1), rig.output(job, 2)
    assert first
    assert first == second
    rows = rig.db.read(snapshots.snapshots, job)
    assert {row.place for row in rows} == {"s3"}
    assert service.sent(signed_url=True) >= 200_000
    assert carried < 50_000  # manifests: the bytes of the model went from machine to storage
    archive = checkpoints.archive(rig.home, rig.settings)
    assert archive.verify(archive.find(job, rows[0].number)) is None
    which = f"j{job}/{rows[0].number}"
    assert f"{which}  whole" in verb(rig, "checkpoints", "verify", which)
    verb(rig, "checkpoints", "get", which, str(rig.home.path.parent / "out"))
    assert (rig.home.path.parent / "out/model.bin").stat().st_size == 200_000
    verb(rig, "checkpoints", "prune", f"j{job}", "--keep", "1", "--yes")
    assert archive.numbers(job) == [rows[0].number]
    assert told == []
    texts = [str(event) for event in rig.events()] + [record.getMessage() for record in caplog.records]
    files = [path.read_bytes() for path in rig.home.path.parent.rglob("*") if path.is_file()]
    for secret in TELLING:
        assert not [text for text in texts if secret.decode() in text]
        assert not [data for data in files if secret in data]
    assert any("snapshot 1 saved" in text for text in texts)


def verb(rig: Rig, *words: str) -> str:
    """Run a verb that must succeed."""
    config = rig.home.path.parent / "config.toml"
    named = rig.settings.checkpoints
    config.write_text(f'[checkpoints]\ns3 = "{named.s3}"\ns3_endpoint = "{named.s3_endpoint}"\n')
    environ = {"GPUSCALE_HOME": str(rig.home.path), "GPUSCALE_CONFIG": str(config)}
    done = CliRunner().invoke(root, words, env=environ)
    assert done.exit_code == 0, done.output
    return done.output


def settings(service: Service, **more: Any) -> Settings:
    return replace(
        Settings(), checkpoints=CheckpointConfig(s3=f"s3://{BUCKET}/x", s3_endpoint=service.endpoint, **more)
    )


async def test_doctor_looks_at_the_storage(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuscale_tui.store.s3_client.TRIES", 1)
    found = await check_storage(settings(service))
    assert (found.state, found.found) == (
        "ok", f"s3://{BUCKET}/x at {service.endpoint} stores, lists, reads and removes",
    )  # fmt: skip
    assert service.objects == {}
    service.rules.append(lambda asked: "denied" if asked.method == "PUT" else None)
    found = await check_storage(settings(service))
    assert (found.state, "access is denied while storing doctor.txt" in found.found) == ("fail", True)


def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "boto3" else find(name, *rest))


async def test_without_the_extra_it_is_said_at_once(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[checkpoints]\ns3 = "s3://snaps/x"\n')
    assert load(config, {}).settings.checkpoints.s3 == "s3://snaps/x"
    without_library(monkeypatch)
    with pytest.raises(ConfigError, match=r"checkpoints.s3: found .*pip install 'gpuscale-tui\[s3\]'"):
        load(config, {})
    assert "not installed" in (await check_storage(settings(service))).found


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('s3 = "snaps/x"', "s3"),
        ('s3 = "s3://snaps//x"', "s3"),
        ('s3_endpoint = "http://me:secret@host/"', "s3_endpoint"),
    ],
)
def test_settings_that_make_no_sense(tmp_path: Path, line: str, key: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"[checkpoints]\n{line}\n")
    with pytest.raises(ConfigError, match=f"checkpoints.{key}: found"):
        load(config, {})


def test_keys_are_known_to_redaction(service: Service, tmp_path: Path) -> None:
    shared = tmp_path / "credentials"
    shared.write_text("[default]\naws_access_key_id = AKIAFILE0000\naws_secret_access_key = from%the/file\n[odd\n")
    (tmp_path / "good").write_text("[p]\naws_access_key_id = AKIAFILE0000\naws_secret_access_key = from%the/file\n")
    environ = {"AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "good"),
               "AWS_CONFIG_FILE": str(shared)}  # fmt: skip
    found = known_secrets(Home(tmp_path / "home"), settings(service), environ)
    assert {SECRET, "AKIAFILE0000", "from%the/file"} <= set(found)
    assert list(storage_secrets(Settings(), environ)) == []
    url = Bucket(S3Place(BUCKET), service.endpoint).sign_get("a").url
    clean = Redactor(found)(f"curl {url} {SECRET}")
    assert not [secret for secret in TELLING if clean.count(secret.decode()) and secret != TELLING[2]]
    assert clean.count(MARK) == 3
    assert os.environ["AWS_ACCESS_KEY_ID"] not in clean


def test_verbs_find_what_the_settings_name(service: Service, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert checkpoints.archive(home, Settings()).root_words() == str(home.checkpoints)
    found = checkpoints.archive(home, settings(service))
    assert found.root_words() == f"s3://{BUCKET}/x at {service.endpoint}"
    assert found.numbers(17) == []
