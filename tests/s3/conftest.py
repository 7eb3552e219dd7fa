"""A service on loopback that is started once, and an archive in it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from gpuscale_tui.model.objects import S3Place
from gpuscale_tui.remote.keys import ensure_client_key
from gpuscale_tui.store.s3_archive import S3Archive
from gpuscale_tui.store.s3_bucket import Bucket
from tests.s3.server import BUCKET, KEY_ID, SECRET, Service, running

SURROUNDINGS = {
    "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
}  # fmt: skip
collect_ignore_glob = [] if importlib.util.find_spec("boto3") else ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def one_loader() -> Iterator[None]:
    """What the library knows of services is a megabyte of JSON: it is read once, not for each client."""
    import boto3
    import botocore.session

    loader = botocore.session.Session().get_component("data_loader")

    class Session(boto3.session.Session):
        def __init__(self) -> None:
            core = botocore.session.Session()
            core.register_component("data_loader", loader)
            super().__init__(botocore_session=core)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("boto3.session.Session", Session)
        yield


@pytest.fixture(scope="session")
def one_service() -> Iterator[Service]:
    with running(Service()) as service:
        yield service


@pytest.fixture
def service(one_service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The service, empty, and the credentials for it where boto3 looks for them."""
    one_service.clear()
    for name, value in SURROUNDINGS.items():
        monkeypatch.setenv(name, value)
    yield one_service
    assert one_service.errors == []


@pytest.fixture(scope="session")
def one_bucket(one_service: Service) -> Bucket:
    """One client for all tests: making one takes a tenth of a second."""
    bucket = Bucket(S3Place(BUCKET, "team/run"), one_service.endpoint)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SURROUNDINGS.items():
            patch.setenv(name, value)
        bucket.sign_get("anything")
    return bucket


@pytest.fixture
def archive(service: Service, one_bucket: Bucket) -> S3Archive:
    return S3Archive(one_bucket)


@pytest.fixture(scope="session")
def client_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our private key."""
    path = tmp_path_factory.mktemp("keys") / "client" / "id_ed25519"
    ensure_client_key(path)
    return path


@pytest.fixture(scope="session")
def host_key() -> asyncssh.SSHKey:
    """The host key of the machines."""
    return asyncssh.generate_private_key("ssh-ed25519")
