"""Secret environment values of jobs: one JSON file of mode 0600 a job in the home's secrets directory, nowhere else.

In a home that a group shares it is 0660: whoever of the group starts the engine has to read it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from gpuscale_tui import rights
from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.store.home import Home, private_opener
from gpuscale_tui.store.opening import StoreError, sync_directory


def write_job_secrets(home: Home, job_id: int, values: Mapping[str, str]) -> None:
    """Keep a job's secrets, replacing any it had; whole and on disk when this returns. Raises OSError."""
    path = _path(home, job_id)
    rights.make_directory(path.parent)
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        with open(draft, "x", encoding="utf-8", opener=private_opener) as file:
            json.dump(dict(values), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def read_job_secrets(home: Home, job_id: int) -> dict[str, str]:
    """A job's secrets, empty when none are kept. Raises StoreError when the file makes no sense."""
    path = _path(home, job_id)
    with contextlib.suppress(FileNotFoundError):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return {str(name): str(value) for name, value in values.items()}
        except (ValueError, AttributeError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise StoreError(f"{path}: the secrets of {job_label(job_id)} cannot be read: submit it again") from error
    return {}


def drop_job_secrets(home: Home, job_id: int) -> None:
    """Forget a job's secrets; harmless when there are none."""
    path = _path(home, job_id)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        sync_directory(path.parent)


def _path(home: Home, job_id: int) -> Path:
    return home.secrets / f"{job_label(job_id)}.json"
