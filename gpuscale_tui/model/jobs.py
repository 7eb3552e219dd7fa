"""Jobs: what a user asks for (`JobSpec`) and what became of it (`Job`, `Attempt`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gpuscale_tui.model.errors import FieldError
from gpuscale_tui.model.offers import Market, Need
from gpuscale_tui.model.states import AttemptState, Cause, JobState, Rehearsal

EMPTY: Mapping[str, str] = MappingProxyType({})
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
SECRET_NAME = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD)", re.IGNORECASE)
NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,200}\Z")
IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}\Z")
GPU = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}\Z")
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
SURROGATE = re.compile("[\ud800-\udfff]")
MAX_RUNTIME_SEC = 365 * 86_400
MAX_PRICE = 1_000_000 * 1_000_000
"""Micro-dollars per hour and GPU; far above any machine, far below what the store's integers hold."""

RESERVED_PREFIX = "GPUSCALE_"
STOP_SIGNALS = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2")
"""Signals that a job may ask to be told by that it has to save and end."""
LONGEST_GRACE_SEC = 86_400
GIT_URL = re.compile(r"(?:(?:https?|ssh|git|file)://|/|[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:)[^\x00-\x20\x7f]{1,1000}\Z")
GIT_REV = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}\Z")
GIT_PASSWORD = re.compile(r"[a-z]+://[^/@]*:[^/@]+@")
DATA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class StartFrom:
    """A snapshot that a job begins with: of another job (a branch), or an older one of its own."""

    job_id: int
    snapshot: int

    @property
    def label(self) -> str:
        """`j17/3`."""
        return f"{job_label(self.job_id)}/{self.snapshot}"


@dataclass(frozen=True, slots=True)
class GitSource:
    """Code to work in: a repository that git can clone, and a branch, tag or commit of it ("": its default branch)."""

    url: str
    rev: str = ""

    @property
    def label(self) -> str:
        """`URL@REV`, as it is typed."""
        return f"{self.url}@{self.rev}" if self.rev else self.url


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One unit of training work as its user asks for it; refused with a FieldError where a field is wrong.

    Exactly one of `command` (a shell line) and `argv` (run as given, no second splitting) is set. `max_price` is
    micro-dollars per hour and GPU, fees included (per machine without a GPU). `gpu_type` None means no GPU.
    `secret_env` values never reach the database. `workdir` is an absolute local directory. `checkpoint_dir` is where
    the command writes its checkpoints, relative to its working directory, when it cannot use CHECKPOINT_DIR.
    `retries` bounds how often it is put back after a machine was lost; None means the setting `max_retries`.
    `params` are the values that a sweep chose for this job. `start_from` is what it finds in CHECKPOINT_DIR as long as
    it has no newer snapshot of its own. `git` is cloned instead of a `workdir`. `data` are local files or directories
    by the name under which the job finds them on its machine, shared with other jobs there. `stop_signal` tells the
    command to save and end; it has `grace_sec` for that (None means the setting). `rehearse`: moved on purpose once,
    after its first snapshot, to see that it resumes.
    """

    image: str
    command: str | None = None
    argv: tuple[str, ...] = ()
    name: str = ""
    gpu_type: str | None = None
    gpu_count: int = 1
    max_price: int | None = None
    priority: int = 5
    max_runtime_sec: int | None = None
    env: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    secret_env: Mapping[str, str] = field(default_factory=lambda: EMPTY, repr=False)
    params: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    workdir: str | None = None
    checkpoint_dir: str | None = None
    project: str | None = None
    provider: str | None = None
    market: Market | None = None
    retries: int | None = None
    user: str = ""
    start_from: StartFrom | None = None
    git: GitSource | None = None
    data: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    stop_signal: str = "TERM"
    grace_sec: int | None = None
    rehearse: bool = False

    def __post_init__(self) -> None:
        check_spec(self)

    @property
    def need(self) -> Need:
        """What this job needs of a machine; without a GPU type the count is 0."""
        gpus = 0 if self.gpu_type is None else self.gpu_count
        return Need(self.image, self.gpu_type, gpus, self.max_price, self.provider, self.market)

    @property
    def command_line(self) -> str:
        """The command as one line to read, whichever way it was given."""
        return self.command if self.command is not None else " ".join(self.argv)


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands.

    Times are UTC ms, `cost` is micro-dollars so far, `attempt` the number of the latest attempt (0: none yet), `faults`
    how often it was put back since its user last asked for it, `not_before` when it may be placed again. Snapshots of
    attempts above `start_after` are newer than the one that it starts from. `rehearsal` is how far the rehearsal of a
    move is, `rehearsal_detail` what came of it, in words, `rehearsal_attempt` the attempt that was or is moved for it.
    `git_commit` is what its `git` was when it was first fetched.
    """

    id: int
    spec: JobSpec
    state: JobState
    attempt: int
    faults: int
    submitted_at: int
    started_at: int | None
    finished_at: int | None
    not_before: int | None
    cancel_requested_at: int | None
    worker_id: int | None
    exit_code: int | None
    cause: Cause | None
    error: str | None
    cost: int
    start_after: int = 0
    rehearsal: Rehearsal = Rehearsal.NONE
    rehearsal_detail: str = ""
    git_commit: str | None = None
    rehearsal_attempt: int | None = None

    @property
    def is_moved(self) -> bool:
        """Whether its latest attempt is to be stopped, or was, to rehearse a move."""
        return self.rehearsal == Rehearsal.MOVING and self.rehearsal_attempt == self.attempt


@dataclass(frozen=True, slots=True)
class Lost:
    """What an end before its time cost: work in ms and micro-dollars since the last verified snapshot, and steps where
    the job's output tells them (None where it does not)."""

    ms: int
    cost: int
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One execution of a job on one worker. Times are UTC ms; `output_bytes` counts what of its output is stored.

    `stalled_at` is when it was noticed that its job does nothing; None while it works. `resumed_step` is the step of
    the snapshot that it began with, `first_step` the first that its own output told, None where unknown. `lost` is what
    its end cost, None where nothing was lost or it has not ended.
    """

    job_id: int
    number: int
    worker_id: int
    state: AttemptState
    assigned_at: int
    started_at: int | None
    ended_at: int | None
    cause: Cause | None
    exit_code: int | None
    output_bytes: int
    resumed_from: int | None
    stalled_at: int | None = None
    resumed_step: int | None = None
    first_step: int | None = None
    lost: Lost | None = None

    @property
    def remote_name(self) -> str:
        """Name of the attempt's directory on a worker, such as `j17-2`."""
        return f"j{self.job_id}-{self.number}"


def job_label(job_id: int) -> str:
    """`j17`: how a job is named wherever a user or a job sees it."""
    return f"j{job_id}"


def worker_label(worker_id: int) -> str:
    """`w3`: how a worker is named wherever a user or a job sees it."""
    return f"w{worker_id}"


def parse_label(text: str, letter: str) -> int | None:
    """17 for `j17` or `17` (letter `j`), None when the text names nothing of this kind."""
    match = re.fullmatch(rf"{letter}?([1-9][0-9]{{0,17}})", text.strip(), re.IGNORECASE | re.ASCII)
    return int(match.group(1)) if match else None


def parse_start(text: str) -> StartFrom:
    """`j17/3`: snapshot 3 of job 17. Raises FieldError (field `from`)."""
    job, _, number = text.strip().partition("/")
    job_id = parse_label(job, "j")
    if job_id is None or not (number.isascii() and number.isdigit() and 0 < int(number[:10]) < 10**9):
        raise FieldError("from", text, "a job and the number of one of its snapshots, such as j17/3")
    return StartFrom(job_id, int(number))


def parse_git(text: str) -> GitSource:
    """`URL@REV` or `URL`. Raises FieldError (field `git`).

    The last `@` divides, unless what follows it cannot be a revision (`git@host:path` has none).
    """
    given = text.strip()
    url, _, rev = given.rpartition("@")
    beyond_host = "://" not in url or "/" in url.partition("://")[2]  # `ssh://git@host/x` has a user, no revision
    if not (url and beyond_host and GIT_URL.match(url) and GIT_REV.match(rev)):
        url, rev = given, ""
    source = GitSource(url, rev)
    _check_git(source)
    return source


def _check_git(source: GitSource) -> None:
    """Nothing that git would take for an option or run as a program; no password, which would be stored and shown."""
    if not GIT_URL.match(source.url) or "::" in source.url.partition("://")[0]:
        raise FieldError("git", source.label, "URL@REV with an https, ssh, git or file URL, user@host:path or a path")
    if GIT_PASSWORD.match(source.url):
        raise FieldError("git", "a URL with a password in it", "a URL without one: use an SSH key or git's own helper")
    if source.rev and not (GIT_REV.match(source.rev) and ".." not in source.rev):
        raise FieldError("git", source.label, "a branch, tag or commit after the @")


def is_secret_name(name: str) -> bool:
    """Whether an environment name says that its value is a secret (DESIGN section 12)."""
    return SECRET_NAME.search(name) is not None


def check_spec(spec: JobSpec) -> None:
    """Raise FieldError for the first field of a specification that is wrong."""
    _check_command(spec)
    _check_words(spec)
    _check_numbers(spec)
    for name, value in (*spec.env.items(), *spec.secret_env.items()):
        _check_variable(name, value)
    _check_paths(spec)
    _check_sources(spec)
    _check_text(spec)


def _check_sources(spec: JobSpec) -> None:
    if spec.git is not None:
        if spec.workdir is not None:
            raise FieldError("git", spec.git.label, "either git or workdir: the job works in one of them")
        _check_git(spec.git)
    _check_data_names(spec)
    for name, path in spec.data.items():
        if not DATA_NAME.match(name):
            raise FieldError("data", name, "NAME=PATH with a name of letters, digits and underscores")
        if not path.startswith("/") or "\x00" in path:
            raise FieldError("data", f"{name}={path}", "NAME=PATH with the absolute path of a file or directory")
    if spec.stop_signal not in STOP_SIGNALS:
        raise FieldError("stop_signal", spec.stop_signal, ", ".join(STOP_SIGNALS))
    if spec.grace_sec is not None and not 0 <= spec.grace_sec <= LONGEST_GRACE_SEC:
        raise FieldError("grace", spec.grace_sec, "0 seconds to 1 day, such as 30s or 5m")


def _check_data_names(spec: JobSpec) -> None:
    """A job finds each in `DATA_<NAME>`, in upper case, which nothing else may be called."""
    variables = [f"DATA_{name.upper()}" for name in spec.data]
    if len(set(variables)) < len(variables):
        raise FieldError("data", ", ".join(spec.data), "names that differ by more than upper and lower case")
    for name in (*spec.env, *spec.secret_env):
        if name in variables:
            raise FieldError("env", name, f"another name: the job is given {name} by us")


def _check_command(spec: JobSpec) -> None:
    if (spec.command is None) == (not spec.argv):
        raise FieldError("command", spec.command, "a command to run, given once")
    text = spec.command_line
    if not text.strip() or "\x00" in text:
        raise FieldError("command", text, "a command that is not empty and has no NUL byte")


def _check_words(spec: JobSpec) -> None:
    if spec.name and not NAME.match(spec.name):
        raise FieldError("name", spec.name, "up to 200 printable characters")
    if not IMAGE.match(spec.image):
        raise FieldError(
            "image", spec.image, "a Docker image name such as pytorch/pytorch:2.4.0-cuda12.1-cudnn9-runtime"
        )
    if spec.gpu_type is not None and not GPU.match(spec.gpu_type):
        raise FieldError("gpu", spec.gpu_type, "a GPU model such as 'RTX 4090', or none")
    for label, value in (("project", spec.project), ("provider", spec.provider)):
        if value is not None and not WORD.match(value):
            raise FieldError(label, value, "up to 63 letters, digits, dots, dashes and underscores")


def _check_numbers(spec: JobSpec) -> None:
    if not 1 <= spec.priority <= 10:
        raise FieldError("priority", spec.priority, "1 (first) to 10 (last)")
    if not 1 <= spec.gpu_count <= 64:
        raise FieldError("gpus", spec.gpu_count, "1 to 64")
    if spec.max_price is not None and not 0 < spec.max_price <= MAX_PRICE:
        raise FieldError("max_price", spec.max_price / 1_000_000, "USD per hour and GPU, above 0 and up to 1,000,000")
    if spec.max_runtime_sec is not None and not 1 <= spec.max_runtime_sec <= MAX_RUNTIME_SEC:
        raise FieldError("max_runtime", spec.max_runtime_sec, "1 second to 365 days, such as 90m or 2h")
    if spec.retries is not None and not 0 <= spec.retries <= 10_000:
        raise FieldError("retries", spec.retries, "0 to 10000")


def _check_variable(name: str, value: str) -> None:
    if not ENV_NAME.match(name):
        raise FieldError("env", name, "names of letters, digits and underscores that do not begin with a digit")
    if name.startswith(RESERVED_PREFIX) and not name.startswith(RESERVED_PREFIX + "PARAM_"):
        raise FieldError("env", name, f"names that do not begin with {RESERVED_PREFIX}, which the job is given by us")
    if "\x00" in value:
        raise FieldError("env", f"{name}=...", "values without a NUL byte")


def _check_paths(spec: JobSpec) -> None:
    if spec.workdir is not None and (not spec.workdir.startswith("/") or "\x00" in spec.workdir):
        raise FieldError("workdir", spec.workdir, "an absolute path of a directory")
    path = spec.checkpoint_dir
    if path is not None and (not path or path.startswith("/") or ".." in path.split("/") or "\x00" in path):
        raise FieldError("checkpoint_dir", path, "a path below the job's working directory, such as checkpoints")


def _check_text(spec: JobSpec) -> None:
    """Bytes of another encoding reach Python as lone surrogates, which nothing that stores or sends text would take."""
    texts: list[tuple[str, str | None]] = [
        ("name", spec.name), ("command", spec.command_line), ("workdir", spec.workdir), ("user", spec.user),
        ("checkpoint_dir", spec.checkpoint_dir), *(("params", text) for pair in spec.params.items() for text in pair),
        ("git", spec.git.label if spec.git else None), *(("data", path) for path in spec.data.values()),
        *(("env", value) for value in (*spec.env.values(), *spec.secret_env.values())),
    ]  # fmt: skip
    for field_name, text in texts:
        if text is not None and SURROGATE.search(text):
            raise FieldError(field_name, "..." if field_name == "env" else text, "text in UTF-8")
