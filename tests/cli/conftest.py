"""The command line in this process, on a home and settings of the test's own; and as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gpuscale_tui.cli.root import root
from gpuscale_tui.engine.lock import EngineLock
from gpuscale_tui.store.home import Home
from tests.store.support import Bench

PATIENCE_SEC = 90.0
CONFIG = '[providers.clore]\nenabled = true\n[scaler]\ngpu_type = "RTX 4090"\n'


def _hear_ctrl_c() -> None:
    """A run that was put into the background by a shell ignores SIGINT, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True, slots=True)
class Cli:
    """Runs verbs."""

    home: Home
    config: Path

    @property
    def environ(self) -> dict[str, str]:
        """What a verb sees."""
        return {"GPUSCALE_HOME": str(self.home.path), "GPUSCALE_CONFIG": str(self.config)}

    def __call__(self, *arguments: str, stdin: str | bytes | None = None, **environ: str) -> Result:
        """Run a verb in this process."""
        result = CliRunner().invoke(root, arguments, input=stdin, env={**self.environ, **environ})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def json(self, *arguments: str, **environ: str) -> Any:
        """Run a verb that must succeed, and read its JSON."""
        result = self(*arguments, "--json", **environ)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def ids(self, *arguments: str, **environ: str) -> list[str]:
        """Submit, which must succeed; the new ids."""
        result = self("submit", *arguments, **environ)
        assert result.exit_code == 0, result.output
        return result.stdout.split()

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a verb as a process of its own."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        options.setdefault("preexec_fn", _hear_ctrl_c)
        environ = {**os.environ, **self.environ, **options.pop("env", {})}
        environ.pop("PYTHONUNBUFFERED", None)  # users have a buffer on stdout
        return subprocess.Popen([sys.executable, "-m", "gpuscale_tui", *arguments], env=environ, **options)

    def run(self, *arguments: str, **options: Any) -> tuple[int, bytes, bytes]:
        """Run a verb as a process of its own; exit code and both outputs."""
        with self.start(*arguments, **options) as process:
            out, err = process.communicate(timeout=PATIENCE_SEC)
        return process.returncode, out or b"", err or b""

    @contextmanager
    def engine(self) -> Iterator[EngineLock]:
        """Be the engine of this home, as far as anybody can tell."""
        with EngineLock(self.home) as lock:
            yield lock


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """A home that was never used, and settings with a provider."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    return Cli(Home(tmp_path / "home"), config)


@pytest.fixture
def bench(cli: Cli) -> Iterator[Bench]:
    """The store of that home."""
    cli.home.ensure()
    made = Bench(cli.home.database)
    yield made
    made.db.close()
