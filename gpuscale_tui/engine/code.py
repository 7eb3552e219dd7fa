"""Code by git: fetched into a bare repository in the home, exported at one commit, sent like a working directory.

Git runs with nothing that a URL, a revision or a repository could turn into a program: only known protocols, no hooks,
no questions, no terminal; a revision is never given as a bare word. It uses its user's own keys and credential helpers,
as `git clone` would. In `<home>/code/KEY/`: `repo.git`, `lock`, `trees/COMMIT/` (the newest few) and `failed-JOB-N`,
whose age tells for how long a fetch has failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuscale_tui import rights
from gpuscale_tui.model.jobs import GitSource
from gpuscale_tui.remote.errors import Unreachable
from gpuscale_tui.remote.workdir import link_stays_inside

PROTOCOLS = "file:git:http:https:ssh"
FETCH_SEC = 3600.0
STALL_SEC = 300.0
"""A fetch that says nothing for so long is given up; so is one that is slower than a kilobyte a second."""
WORK_SEC = 600.0
LOCK_SEC = 0.2
GIVE_UP_SEC = 3600.0
"""For so long a network that fails is tried again; the machine costs money meanwhile."""
KEPT_TREES = 4
IN_USE_SEC = 6 * 3600.0
"""A tree that was used so recently may be on its way to a machine."""
SAID_BYTES = 64 * 1024
COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
ABBREVIATED = re.compile(r"[0-9a-f]{4,64}")
PROGRESS = re.compile(rb"([A-Z][A-Za-z ]+): +([0-9]{1,3})%")
OPTIONS = (
    *(
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "core.fsmonitor=false",
        "-c",
        "gc.auto=0",
        "-c",
        "maintenance.auto=false",
    ),
    *("-c", "protocol.ext.allow=never", "-c", "credential.interactive=false", "-c", "fetch.recurseSubmodules=false"),
    *("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60", "-c", "advice.detachedHead=false"),
)
KEPT_VARIABLES = ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "GIT_PROXY_COMMAND", "GIT_CONFIG_GLOBAL")
FOR_ITS_USER = (
    *("not found", "does not exist", "does not appear to be a git repository", "authentication failed"),
    *("could not read username", "could not read password", "permission denied", "host key verification failed"),
    *(
        "not allowed",
        "dubious ownership",
        "not a git repository",
        "returned error: 4",
        "access denied",
        "not supported",
    ),
)
"""What git says (in English, in lower case) where trying again would not help."""


class CodeError(Exception):
    """Code that cannot be had as its job names it: only its user can mend that. Names URL, reason and way out."""


class CodeUnreachable(Unreachable):
    """It could not be fetched now; worth trying again."""


@dataclass(frozen=True, slots=True)
class Code:
    """A commit's files on this host: `names` relative to `root`, sorted. `left_out` says what does not travel."""

    commit: str
    root: Path
    names: tuple[str, ...]
    left_out: tuple[str, ...] = ()


Told = Callable[[str], None]
"""Hears how far git is, in words."""


async def fetch(
    place: Path, source: GitSource, commit: str | None, *, attempt: str, told: Told = lambda _: None
) -> Code:
    """The files of a revision. `commit` is what it was found to be before: then that, whatever it is now.

    `place` is the home's directory for code, `attempt` a name of who asks. Whoever else fetches the same repository
    waits for its turn. Raises CodeError, and CodeUnreachable where it is worth trying again.
    """
    if shutil.which("git") is None:
        raise CodeError("there is no `git` program on this host, and the job's code comes by git: install it")
    key = hashlib.sha256(source.url.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    try:
        return await _fetch(place / key, source, commit, attempt, told)
    except OSError as error:
        raise CodeUnreachable(f"{source.label} could not be fetched: this host says {error}") from error


async def _fetch(directory: Path, source: GitSource, commit: str | None, attempt: str, told: Told) -> Code:
    await asyncio.to_thread(rights.make_directory, directory)
    async with _locked(directory / "lock"):
        repository = _Repository(directory, source, told)
        await repository.make()
        known = commit if commit is not None and await repository.has(commit) else await repository.ready()
        failed = directory / f"failed-{attempt}"
        if known is None:
            try:
                await repository.update(commit)
            except CodeUnreachable as error:
                raise _judged(error, failed) from error
            known = await repository.resolve(commit)
        failed.unlink(missing_ok=True)
        return await repository.export(known)


def _judged(error: CodeUnreachable, failed: Path) -> Exception:
    """The same, or a CodeError once it has failed for too long; remembered in a file, for engines to come too."""
    if not failed.exists():
        failed.touch()
    if time.time() - failed.stat().st_mtime < GIVE_UP_SEC:
        return error
    failed.unlink(missing_ok=True)
    return CodeError(f"{error}; given up after {GIVE_UP_SEC / 3600:g} h")


@contextlib.asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """One at a time, over all tasks and programs of this host."""
    descriptor = rights.private_opener(str(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        async with asyncio.timeout(FETCH_SEC):
            while not _taken(descriptor):  # noqa: ASYNC110 - another program's lock rings no bell
                await asyncio.sleep(LOCK_SEC)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Repository:
    """The bare repository of one URL; its lock is held."""

    def __init__(self, directory: Path, source: GitSource, told: Told) -> None:
        self._directory = directory
        self._path = directory / "repo.git"
        self._source = source
        self._told = told

    async def make(self) -> None:
        """Make it at first use: empty, without the templates (hooks) of its user."""
        if not (self._path / "HEAD").exists():
            await asyncio.to_thread(shutil.rmtree, self._path, ignore_errors=True)
            await self._local("init", "--quiet", "--bare", "--template=", "--", str(self._path), within=False)

    async def has(self, commit: str) -> bool:
        """Whether a commit is here, with all that it needs."""
        done = await _git(self._words("cat-file", "-e", f"{commit}^{{commit}}"), WORK_SEC)
        return done.code == 0

    async def ready(self) -> str | None:
        """The commit, where the revision is the whole name of one that is here: then nobody needs to be asked."""
        rev = self._source.rev
        return rev if COMMIT.fullmatch(rev) and await self.has(rev) else None

    async def update(self, commit: str | None) -> None:
        """Bring its branches and tags here, and a commit that stands in none of them if its server gives it."""
        url = self._source.url
        refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        common = ("--progress", "--no-auto-maintenance", "--no-write-fetch-head", "--no-recurse-submodules")
        await self._network("fetch", *common, "--prune", "--force", "--no-tags", "--", url, *refs)
        wanted = commit or self._source.rev
        if COMMIT.fullmatch(wanted) and not await self.has(wanted):
            # what cannot be had so is told when it is resolved
            await _git(
                self._words("fetch", *common, "--no-tags", "--", url, f"{wanted}:refs/gpuscale/{wanted}"), FETCH_SEC
            )

    async def resolve(self, commit: str | None) -> str:
        """The commit that the revision means; `commit` where that was found out before. Raises CodeError."""
        if commit is not None:
            if await self.has(commit):
                return commit
            raise CodeError(
                f"{self._source.url} no longer has commit {commit[:12]}, which this job's first attempt worked on;"
                " submit the job anew for what is there now"
            )
        rev = self._source.rev
        for name in await self._head() if not rev else (f"refs/tags/{rev}", f"refs/heads/{rev}"):
            found = await self._commit(name)
            if found is not None:
                return found
        found = await self._commit(rev) if ABBREVIATED.fullmatch(rev) else None
        if found is None:
            what = f"no branch, tag or commit {rev!r}" if rev else "no default branch"
            raise CodeError(f"{self._source.url} has {what}; `git ls-remote {self._source.url}` lists what it has")
        return found

    async def _head(self) -> Sequence[str]:
        """The branch that the server's HEAD names, which is what `git clone` would check out."""
        said = await self._network("ls-remote", "--symref", "--", self._source.url, "HEAD")
        lines = [line.split() for line in said.decode("utf-8", "replace").splitlines()]
        named = [words[1] for words in lines if words[:1] == ["ref:"] and len(words) == 3]
        commits = [words[0] for words in lines if len(words) == 2 and COMMIT.fullmatch(words[0])]
        return [*(name for name in named if name.startswith("refs/heads/")), *commits]

    async def _commit(self, name: str) -> str | None:
        words = self._words("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        done = await _git(words, WORK_SEC)
        found = done.out.decode("ascii", "replace").strip()
        return found if done.code == 0 and COMMIT.fullmatch(found) else None

    async def export(self, commit: str) -> Code:
        """The files of a commit as they would be checked out, in a directory of their own that is made whole."""
        listed = await self._local("ls-tree", "-r", "-z", "--full-tree", commit)
        tree = self._directory / "trees" / commit
        await asyncio.to_thread(rights.make_directory, tree.parent)
        if not tree.exists():
            await self._check_out(commit, tree)
        os.utime(tree)
        await asyncio.to_thread(_forget_old, tree.parent, tree)
        return await asyncio.to_thread(_listed, commit, tree, listed)

    async def _check_out(self, commit: str, tree: Path) -> None:
        draft, index = tree.with_name(f".{commit}"), tree.with_name(f".{commit}.index")
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
        rights.make_directory(draft)
        more = {"GIT_INDEX_FILE": str(index), "GIT_WORK_TREE": str(draft)}
        try:
            await self._local("read-tree", commit, more=more)
            await self._local("checkout-index", "--all", "--force", "--quiet", more=more)
            draft.rename(tree)
        finally:
            index.unlink(missing_ok=True)
            await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)

    def _words(self, *words: str) -> tuple[str, ...]:
        return ("git", *OPTIONS, "--git-dir", str(self._path), *words)

    async def _local(self, *words: str, within: bool = True, more: Mapping[str, str] | None = None) -> bytes:
        given = self._words(*words) if within else ("git", *OPTIONS, *words)
        done = await _git(given, WORK_SEC, more=more or {})
        if done.code != 0:
            raise CodeError(f"{self._source.label}: git {words[0]} failed: {done.words}")
        return done.out

    async def _network(self, *words: str) -> bytes:
        done = await _git(self._words(*words), FETCH_SEC, told=self._told)
        if done.code == 0:
            return done.out
        said = done.words.casefold()
        if any(each in said for each in FOR_ITS_USER):
            raise CodeError(
                f"{self._source.label} cannot be fetched: {done.words}; try `git ls-remote {self._source.url}` on this"
                " host, as the user of the engine and without typing a password"
            )
        raise CodeUnreachable(f"{self._source.label} could not be fetched: {done.words}")


def _forget_old(trees: Path, used: Path) -> None:
    """Remove exported trees but for the newest few and those that may be in use."""
    now = time.time()
    others = [(path.stat().st_mtime, path) for path in trees.iterdir() if path != used and COMMIT.fullmatch(path.name)]
    for at, path in sorted(others, reverse=True)[KEPT_TREES - 1 :]:
        if now - at > IN_USE_SEC:
            shutil.rmtree(path, ignore_errors=True)


def _listed(commit: str, root: Path, listed: bytes) -> Code:
    """What `ls-tree` named: files and inner links; submodules and links that lead out stay."""
    names: list[str] = []
    left_out: list[str] = []
    for line in listed.split(b"\0"):
        facts, tab, raw = line.partition(b"\t")
        if not tab:
            continue
        name, path = os.fsdecode(raw), root / os.fsdecode(raw)
        if facts.startswith(b"160000"):
            left_out.append(f"{name} (a submodule: its files are not fetched)")
        elif path.is_symlink() and not link_stays_inside(name, os.readlink(path)):  # noqa: PTH115 - text, not a Path
            left_out.append(f"{name} (a link that leads out)")
        else:
            names.append(name)
    return Code(commit, root, tuple(sorted(names)), tuple(left_out))


@dataclass(frozen=True, slots=True)
class _Done:
    code: int
    out: bytes
    said: bytes

    @property
    def words(self) -> str:
        """The last of what it said, on one line."""
        lines = [line.strip() for line in self.said.decode("utf-8", "replace").replace("\r", "\n").splitlines()]
        telling = [line for line in lines if line and not line.startswith(("hint:", "remote: Enumerating"))]
        errors = [line for line in telling if line.startswith(("fatal:", "error:", "ERROR"))] or telling
        return " ".join(errors[-3:])[:500] or f"it ended with {self.code} and said nothing"


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Nothing of git's own that points elsewhere, no way to ask anybody, English for us to read."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in KEPT_VARIABLES}
    return {
        **{name: value for name, value in kept.items() if name not in {"DISPLAY", "SSH_ASKPASS"}},
        "GIT_ALLOW_PROTOCOL": PROTOCOLS, "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "GCM_INTERACTIVE": "never",
        "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C", **more,
    }  # fmt: skip


async def _git(
    words: Sequence[str], bound_sec: float, *, more: Mapping[str, str] | None = None, told: Told = lambda _: None
) -> _Done:
    """Run git in a session of its own, so that nothing in it finds a terminal to ask; all of it ends with us."""
    environment = _environment(more or {})
    process = await asyncio.create_subprocess_exec(
        *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=environment, start_new_session=True, cwd="/",
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(bound_sec):
            out, said = await asyncio.gather(_read_all(process.stdout), _follow(process.stderr, told))
            code = await process.wait()
    except TimeoutError:
        return _Done(-1, b"", f"fatal: it took more than {bound_sec:g} s, or said nothing for {STALL_SEC:g} s".encode())
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
    return _Done(code, out, said)


async def _read_all(stream: asyncio.StreamReader) -> bytes:
    return await stream.read()


async def _follow(stream: asyncio.StreamReader, told: Told) -> bytes:
    """The end of what it says; `told` hears each step of its progress. Raises TimeoutError when it stalls."""
    said = b""
    while True:
        async with asyncio.timeout(STALL_SEC):
            data = await stream.read(4096)
        if not data:
            return said
        said = (said + data)[-SAID_BYTES:]
        steps = PROGRESS.findall(data)
        if steps:
            told(f"{steps[-1][0].decode('ascii').lower()}: {steps[-1][1].decode('ascii')} %")
