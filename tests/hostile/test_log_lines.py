"""What the engine itself logs: plain, and without secrets, wherever it goes."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest

from gpuscale_tui.engine import redaction
from gpuscale_tui.engine.redaction import MARK
from gpuscale_tui.model.settings import CloreConfig, NotifyConfig, ProvidersConfig, Settings
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.secrets import write_job_secrets
from tests.hostile.corpus import EVIL, misfits, sequences

API_KEY = "canary-api-key-5b1f"
URL = "slack://canaryTokenAAA/canaryTokenBBB/canaryTokenCCC"


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[logging.Logger, io.StringIO]:
    """A logger as the autopilot and the screen set it up, and what it has written."""
    key = tmp_path / "key"
    key.write_text(API_KEY + "\n")
    monkeypatch.setenv("CLORE_API_KEY", "canary-of-the-environment")
    home = Home(tmp_path / "home")
    home.ensure()
    settings = Settings(
        providers=ProvidersConfig(clore=CloreConfig(api_key_file=str(key))), notify=NotifyConfig(urls=(URL,))
    )
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(redaction.log_formatter(home, settings, "%(levelname)s %(message)s"))
    logger = logging.Logger("engine of a test")
    logger.addHandler(handler)
    return logger, out


def fail(text: str) -> None:
    raise OSError(text)


def test_raw_bytes_in_the_engines_own_log(said: tuple[logging.Logger, io.StringIO]) -> None:
    """A machine's words in an error, and in its traceback."""
    logger, out = said
    try:
        fail(EVIL)
    except OSError as error:
        logger.error("failed: %s", error, exc_info=error)  # noqa: TRY400
    written = out.getvalue().encode("utf-8", "surrogatepass")
    assert b"EVIL[/]" in written
    assert b"Traceback" in written
    assert misfits(written) == []
    assert sequences(written) == set()


def test_a_canary_in_a_log_line_is_taken_out_by_value(said: tuple[logging.Logger, io.StringIO]) -> None:
    """Keys and addresses, whatever they are called, in messages and tracebacks."""
    logger, out = said
    logger.error("x=%s y=%s", API_KEY, "canary-of-the-environment")
    try:
        fail(f"cannot read {URL}: canaryTokenBBB")
    except OSError:
        logger.exception("oh")
    for secret in (API_KEY, "canary-of-the-environment", "canaryToken"):
        assert secret not in out.getvalue()
    assert out.getvalue().startswith(f"ERROR x={MARK} y={MARK}")


def test_a_canary_of_a_job_is_known_by_its_job(tmp_path: Path) -> None:
    """For messages about it."""
    home = Home(tmp_path / "home")
    home.ensure()
    write_job_secrets(home, 7, {"TOKEN": "canary-of-a-job"})
    assert redaction.known_secrets(home, Settings(), {}, (), [7, 8]) == ["canary-of-a-job"]
