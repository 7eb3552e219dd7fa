"""The Python API: a queue, a budget and an engine in a few lines.

from gpuscale_tui import Job, Pipeline, ScalerConfig

pipeline = Pipeline(config=ScalerConfig(max_workers=2, max_hourly_budget=1.0))
pipeline.submit(Job(command="python train.py", image="pytorch/pytorch:2.4.0-cuda12.1-cudnn9-runtime"))
pipeline.start(block=True)
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from gpuscale_tui.config import load
from gpuscale_tui.engine import commands, doorbell, view
from gpuscale_tui.engine.engine import Engine, utc_ms
from gpuscale_tui.engine.lock import running_engine
from gpuscale_tui.model.durations import parse_duration
from gpuscale_tui.model.errors import FieldError, GpuscaleError, NotFound
from gpuscale_tui.model.jobs import JobSpec, is_secret_name, job_label, parse_git, parse_label
from gpuscale_tui.model.money import parse_usd
from gpuscale_tui.model.settings import ProvidersConfig, ScalerConfig, Settings
from gpuscale_tui.store import queries
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.views import JobRow, Status

STOP_SLACK_SEC = 15.0


@dataclass(frozen=True, slots=True)
class Job:
    """A job to submit. What is left out comes from the settings.

    `command` is a shell line, or a sequence of words that is run as given. `gpu_type` "none" asks for no GPU.
    `max_price` is US dollars per hour and GPU, `max_runtime` a number of seconds or a text such as "2h". `secrets` are
    environment values that are kept out of the database and every log. `git` ("URL@REV") is cloned instead of a
    `workdir`; `data` are files or directories by the name under which the job finds them. `stop_signal` tells the
    command to save and end, for which it has `grace` (seconds, or a text such as "5m"). `rehearse`: moved on purpose.
    """

    command: str | Sequence[str]
    name: str = ""
    image: str | None = None
    gpu_type: str | None = None
    gpu_count: int = 1
    max_price: float | str | None = None
    priority: int = 5
    max_runtime: int | str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    workdir: str | Path | None = None
    checkpoint_dir: str | None = None
    project: str | None = None
    provider: str | None = None
    retries: int | None = None
    git: str | None = None
    data: Mapping[str, str | Path] = field(default_factory=dict)
    stop_signal: str = "TERM"
    grace: int | str | None = None
    rehearse: bool = False

    def spec(self, settings: Settings) -> JobSpec:
        """The checked specification. Raises FieldError naming the field that is wrong."""
        words = () if isinstance(self.command, str) else tuple(self.command)
        return JobSpec(
            command=self.command if isinstance(self.command, str) else None,
            argv=words,
            name=self.name,
            image=self.image or settings.scaler.docker_image,
            gpu_type=view.gpu_of(self.gpu_type or settings.scaler.gpu_type),
            gpu_count=self.gpu_count,
            max_price=None if self.max_price is None else _price(self.max_price),
            priority=self.priority,
            max_runtime_sec=_seconds(self.max_runtime),
            env=_public(self.env),
            secret_env={**_secret(self.env), **self.secrets},
            workdir=None if self.workdir is None else _directory(self.workdir),
            checkpoint_dir=self.checkpoint_dir,
            project=self.project,
            provider=self.provider,
            retries=self.retries,
            git=None if self.git is None else parse_git(self.git),
            data={name: _existing(name, path) for name, path in self.data.items()},
            stop_signal=self.stop_signal.upper().removeprefix("SIG"),
            grace_sec=_seconds(self.grace),
            rehearse=self.rehearse,
            user=getpass.getuser(),
        )


def _price(value: float | str) -> int:
    try:
        return parse_usd(value)
    except ValueError as error:
        raise FieldError("max_price", value, "US dollars per hour and GPU, such as 0.50") from error


def _seconds(value: int | str | None) -> int | None:
    return parse_duration(value) if isinstance(value, str) else value


def _public(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not is_secret_name(name)}


def _secret(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if is_secret_name(name)}


def _directory(path: str | Path) -> str:
    directory = Path(path).expanduser().resolve()
    if not directory.is_dir():
        raise FieldError("workdir", str(path), "a directory that exists")
    return str(directory)


def _existing(name: str, path: str | Path) -> str:
    found = Path(path).expanduser().absolute()
    if not found.exists():
        raise FieldError("data", f"{name}={path}", "a file or directory that exists")
    return str(found)


class Pipeline:
    """A queue with its engine. A context manager: leaving the block stops at once what `start` began.

    `config` holds the scaler's settings; `providers` where machines come from; both override the settings file, which
    is read too (`config_file`, `$GPUSCALE_CONFIG`, else the user's). `home` is the data directory.
    Raises GpuscaleError where something in that is wrong.
    """

    def __init__(
        self,
        config: ScalerConfig | None = None,
        *,
        providers: ProvidersConfig | None = None,
        home: str | Path | None = None,
        config_file: str | Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._read = partial(_settings, config, providers, config_file, self._environ)
        self._settings = self._read()
        self._home = Home.locate(None if home is None else str(home), self._environ)
        self._home.ensure()
        self._engine: Engine | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(now=True)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    def submit(self, job: Job) -> str:
        """Put one job into the queue; it is durable when this returns. Returns its id, such as `j17`."""
        return self.submit_many([job])[0]

    def submit_many(self, jobs: Iterable[Job]) -> list[str]:
        """Put jobs into the queue, all or none; returns their ids. Raises FieldError."""
        specs = [job.spec(self._settings) for job in jobs]
        with Database(self._home.database) as db:
            ids = db.write(commands.submit, self._home, specs, now=utc_ms())
        doorbell.ring(self._home)
        return [job_label(job_id) for job_id in ids]

    def start(self, *, block: bool = True) -> None:
        """Start the engine. With `block` return when nothing is pending, running or rented any more.

        Without, it works in the background of this program until `stop`. Raises EngineRunning when another program
        runs this home's engine, GpuscaleError when it ends by a failure.
        """
        if self._engine is not None and self._engine.alive:
            raise GpuscaleError("this pipeline has been started already")
        engine = Engine(
            self._home, self._settings, mode="pipeline", environ=self._environ, exit_when_idle=block,
            read_again=self._read,
        )  # fmt: skip
        self._engine = engine.__enter__()
        if block:
            try:
                engine.wait()
            finally:
                engine.detach()
            self._raise_failure(engine)

    def stop(self, *, now: bool = False) -> None:
        """End the engine that `start` began: after what runs has finished, or `now` after saving. Waits for the end."""
        engine = self._engine
        if engine is None:
            return
        if engine.alive:
            engine.stop(at_once=now)
            engine.wait(self._settings.scaler.shutdown_grace_sec + STOP_SLACK_SEC if now else None)
        engine.detach()
        self._engine = None
        self._raise_failure(engine)

    def status(self) -> Status:
        """Engine, counts of jobs and workers by state, and spend (micro-dollars), from the store."""
        with Database(self._home.database) as db:
            found = db.read(queries.status, utc_ms(), view.cap(self._settings))
        pid = running_engine(self._home)
        return replace(found, engine=replace(found.engine, running=pid is not None))

    def job(self, job_id: str) -> JobRow:
        """One job as it stands. Raises NotFound."""
        number = parse_label(job_id, "j")
        with Database(self._home.database) as db:
            row = None if number is None else db.read(queries.job_row, number)
        if row is None:
            raise NotFound(f"there is no job {job_id}")
        return row

    def cancel(self, job_id: str) -> str:
        """Cancel a job: `cancelled`, `cancelling` (it is saved first), or the final state it had. Raises NotFound."""
        number = parse_label(job_id, "j")
        if number is None:
            raise NotFound(f"there is no job {job_id}")
        with Database(self._home.database) as db:
            [(_, outcome)] = db.write(commands.cancel, [number], user=getpass.getuser(), now=utc_ms())
        doorbell.ring(self._home)
        return outcome

    @staticmethod
    def _raise_failure(engine: Engine) -> None:
        if engine.failure is not None:
            raise GpuscaleError(f"the engine ended: {engine.failure}") from engine.failure


def _settings(
    config: ScalerConfig | None,
    providers: ProvidersConfig | None,
    config_file: str | Path | None,
    environ: Mapping[str, str],
) -> Settings:
    loaded = load(config_file, environ).settings
    settings = replace(
        loaded,
        scaler=loaded.scaler if config is None else config,
        providers=loaded.providers if providers is None else providers,
    )
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    """Settings made in Python have not been through the file's checks yet. Raises FieldError."""
    import msgspec

    try:
        msgspec.convert(asdict(settings), Settings)
    except msgspec.ValidationError as error:
        raise FieldError("config", "a setting", str(error)) from error
