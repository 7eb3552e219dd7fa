"""Which object storage the settings name, and how it stands there. Nothing heavy is imported before one is named."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gpuscale_tui.model.objects import EXTRA_MISSING, LIBRARY, parse_s3
from gpuscale_tui.model.settings import Settings

if TYPE_CHECKING:
    from gpuscale_tui.store.both import BothArchives
    from gpuscale_tui.store.checkpoints import SnapshotStore

SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")
SECRETS_IN_FILES = frozenset(name.lower() for name in SECRETS)
FILES = (("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"), ("AWS_CONFIG_FILE", "~/.aws/config"))


def both_archives(settings: Settings, directory: SnapshotStore, owner: str = "") -> BothArchives | None:
    """The object storage of the settings, with what the directory has from before; None where none is named.

    `owner` is the id of the home: another's prefix is refused.
    """
    named = settings.checkpoints
    if named.s3 is None:
        return None
    from gpuscale_tui.store.both import BothArchives
    from gpuscale_tui.store.s3_archive import S3Archive
    from gpuscale_tui.store.s3_bucket import Bucket

    bucket = Bucket(parse_s3(named.s3), named.s3_endpoint, sign_sec=named.s3_sign_sec)
    return BothArchives(S3Archive(bucket, owner=owner), directory)


def storage_secrets(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """Keys of the object storage as far as they stand in the environment or in the files where its library looks.

    Only where the settings name one: nobody else's keys are looked at.
    """
    if settings.checkpoints.s3 is None:
        return
    import configparser

    yield from (environ[name] for name in SECRETS if environ.get(name))
    for variable, usual in FILES:
        reader = configparser.ConfigParser(interpolation=None)
        with contextlib.suppress(OSError, UnicodeDecodeError, configparser.Error, RuntimeError):
            reader.read_string(Path(environ.get(variable) or usual).expanduser().read_text(encoding="utf-8"))
        for section in reader.sections():
            yield from (value for name, value in reader.items(section) if name in SECRETS_IN_FILES and value)


def look_at_storage(settings: Settings) -> tuple[str, str]:
    """How the object storage of the settings stands: what was found, and what is wrong (empty: nothing). Blocks.

    It is listed, and a small object is stored there, read and removed.
    """
    from gpuscale_tui.store.archive import SnapshotError
    from gpuscale_tui.store.s3_bucket import Bucket

    if importlib.util.find_spec(LIBRARY) is None:
        return "", EXTRA_MISSING
    named = settings.checkpoints
    bucket = Bucket(parse_s3(named.s3 or ""), named.s3_endpoint, sign_sec=named.s3_sign_sec)
    try:
        next(bucket.find_all("doctor", flat=True), None)
        bucket.put("doctor.txt", b"gpuscale doctor")
        read = bucket.get("doctor.txt")
        bucket.remove(["doctor.txt"])
    except SnapshotError as error:
        return "", str(error)
    return (
        (bucket.words, "")
        if read == b"gpuscale doctor"
        else ("", f"{bucket.words}: what is stored is not what is read")
    )
