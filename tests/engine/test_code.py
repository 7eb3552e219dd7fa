"""Code by git: what a revision means, once and for all attempts; hostile URLs, revisions and repositories."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest

from gpuscale_tui.engine import code
from gpuscale_tui.engine.code import CodeError, CodeUnreachable, fetch
from gpuscale_tui.model.errors import FieldError
from gpuscale_tui.model.jobs import GitSource, parse_git
from tests.remote.conftest import until

pytestmark = pytest.mark.skipif(
    subprocess.run(["which", "git"], capture_output=True, check=False).returncode != 0, reason="git is not installed"
)
WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


class Upstream:
    """A repository that somebody works in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "-q", "-b", "trunk")
        self.url = f"file://{path}"

    def git(self, *words: str) -> str:
        environ = {**os.environ, **WHO, "GIT_CONFIG_GLOBAL": "/dev/null"}
        done = subprocess.run(["git", *words], cwd=self.path, env=environ, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            (self.path / f"{name}.py").write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "work")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "up")


async def get(tmp_path: Path, upstream: Upstream, rev: str = "", commit: str | None = None) -> code.Code:
    return await fetch(tmp_path / "code", GitSource(upstream.url, rev), commit, attempt="j1-1")


async def test_what_a_revision_means(tmp_path: Path, upstream: Upstream) -> None:
    first = upstream.commit(train="one")
    upstream.git("tag", "-a", "v1", "-m", "first")
    upstream.git("branch", "feature/x")
    second = upstream.commit(train="two")
    for rev, wanted in (("", second), ("trunk", second), ("v1", first), ("feature/x", first), (first[:10], first)):
        found = await get(tmp_path, upstream, rev)
        assert (found.commit, found.names, found.left_out) == (wanted, ("train.py",), ())
        assert (found.root / "train.py").read_text() == ("one" if wanted == first else "two")


async def test_later_attempts_work_on_the_same_though_the_branch_moved(tmp_path: Path, upstream: Upstream) -> None:
    first = (await get(tmp_path, upstream)).commit if upstream.commit(train="one") else ""
    upstream.commit(train="two")
    again = await get(tmp_path, upstream, "trunk", first)
    assert (again.commit, (again.root / "train.py").read_text()) == (first, "one")
    upstream.path.rename(tmp_path / "away")  # nobody is asked for what is here
    assert (await get(tmp_path, upstream, "trunk", first)).commit == first
    assert (await get(tmp_path, upstream, first)).commit == first


async def test_a_commit_that_was_taken_back_is_said(tmp_path: Path, upstream: Upstream) -> None:
    upstream.commit(train="one")
    await get(tmp_path, upstream)
    with pytest.raises(CodeError, match="no longer has commit 0123456789ab"):
        await get(tmp_path, upstream, "trunk", "0123456789ab" + "0" * 28)


async def test_what_is_not_there_names_the_way_out(tmp_path: Path, upstream: Upstream) -> None:
    upstream.commit(train="one")
    for rev in ("nowhere", "v9", "deadbeef", "refs/heads/trunk/x", "HEAD.lock"):
        with pytest.raises(CodeError, match="git ls-remote"):
            await get(tmp_path, upstream, rev)
    for url in (f"file://{tmp_path}/none", str(tmp_path / "none")):
        with pytest.raises(CodeError, match="git ls-remote"):
            await fetch(tmp_path / "code", GitSource(url), None, attempt="j1-1")
    empty = Upstream(tmp_path / "empty")
    with pytest.raises(CodeError, match="no default branch"):
        await get(tmp_path, empty)


async def test_a_network_that_fails_is_tried_again_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def again(attempt: str) -> None:
        await fetch(tmp_path / "code", GitSource("http://127.0.0.1:1/x.git", "main"), None, attempt=attempt)

    with pytest.raises(CodeUnreachable, match=r"127\.0\.0\.1"):
        await again("j1-1")
    old = time.time() - code.GIVE_UP_SEC - 1
    (failed,) = (tmp_path / "code").glob("*/failed-j1-1")
    os.utime(failed, (old, old))
    with pytest.raises(CodeError, match="given up after 1 h"):
        await again("j1-1")
    with pytest.raises(CodeUnreachable):
        await again("j2-1")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CodeError, match="no `git` program"):
        await again("j1-1")


@pytest.mark.parametrize(
    "text",
    [
        "--upload-pack=touch /tmp/x", "-uX", "ext::sh -c touch% /tmp/x", "https://h/x@--output=y", "https://h/x y",
        "https://u:secret@h/x", "https://h/x@a..b", "https://h/x@a:b", "x", "", "@", "fd::17",
        "ssh://-oProxyCommand=x/y@", "https://h/x@\x1b[31m", "javascript://x", "https://h/x@../../y",
    ],
)  # fmt: skip
def test_hostile_words_are_refused_or_are_only_a_name(text: str) -> None:
    """Whatever is taken begins neither URL nor revision as an option, and names no program."""
    try:
        source = parse_git(text)
    except FieldError:
        return
    assert not source.url.startswith("-")
    assert not source.rev.startswith("-")
    assert source.url.startswith(("https://", "ssh://"))


async def test_a_url_that_would_run_a_program_runs_none(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for url in (
        f"ext::sh -c touch% {mark}",
        f"--upload-pack=touch {mark}",
        f"ssh://-oProxyCommand=touch${{IFS}}{mark}/x",
    ):
        with pytest.raises((CodeError, CodeUnreachable)):
            await fetch(
                tmp_path / "code", GitSource.__new__(GitSource) if False else _source(url), None, attempt="j1-1"
            )
    assert not mark.exists()


def _source(url: str) -> GitSource:
    return GitSource(url, "main")


async def test_hooks_of_nobody_run(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the repository's nor those that the settings of the engine's user would put everywhere."""
    mark, template = tmp_path / "ran", tmp_path / "template"
    (template / "hooks").mkdir(parents=True)
    for place in (template / "hooks", upstream.path / ".git" / "hooks"):
        place.mkdir(exist_ok=True)
        for name in ("post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc"):
            (place / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
            (place / name).chmod(0o755)
    upstream.commit(train="one")
    mark.unlink(missing_ok=True)
    settings = tmp_path / "gitconfig"
    settings.write_text(f"[init]\n templateDir = {template}\n[core]\n hooksPath = {template}/hooks\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert (await get(tmp_path, upstream)).names == ("train.py",)
    assert not mark.exists()


async def test_links_that_lead_out_and_submodules_stay_and_are_named(tmp_path: Path, upstream: Upstream) -> None:
    (upstream.path / "inner").symlink_to("train.py")
    (upstream.path / "outer").symlink_to("/etc/passwd")
    (upstream.path / "run.sh").write_text("#!/bin/sh\n")
    (upstream.path / "run.sh").chmod(0o755)
    (upstream.path / ".gitattributes").write_text("secret.py export-ignore\n")
    other = Upstream(tmp_path / "other")
    other.commit(lib="x")
    upstream.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", other.url, "vendor")
    upstream.commit(train="one", secret="here")
    found = await get(tmp_path, upstream)
    assert found.names == (".gitattributes", ".gitmodules", "inner", "run.sh", "secret.py", "train.py")
    assert found.left_out == ("outer (a link that leads out)", "vendor (a submodule: its files are not fetched)")
    assert os.access(found.root / "run.sh", os.X_OK)


async def test_many_at_once_take_their_turns(tmp_path: Path, upstream: Upstream) -> None:
    wanted = upstream.commit(train="one")
    found = await asyncio.gather(*(get(tmp_path, upstream, "trunk") for _ in range(5)))
    assert {each.commit for each in found} == {wanted}


async def test_what_was_cut_short_is_made_anew(tmp_path: Path, upstream: Upstream) -> None:
    wanted = upstream.commit(train="one")
    key = (await get(tmp_path, upstream)).root.parent.parent
    draft = key / "trees" / f".{wanted}"
    (key / "trees" / wanted).rename(draft)
    (draft / "train.py").write_text("half")
    (key / "trees" / f".{wanted}.index").write_bytes(b"half")
    assert ((await get(tmp_path, upstream)).root / "train.py").read_text() == "one"
    (key / "repo.git" / "HEAD").unlink()
    (key / "trees" / wanted).rename(tmp_path / "gone")
    assert (await get(tmp_path, upstream)).commit == wanted


async def test_trees_do_not_pile_up(tmp_path: Path, upstream: Upstream) -> None:
    for number in range(7):
        upstream.commit(train=str(number))
        tree = (await get(tmp_path, upstream)).root
        os.utime(tree, (1000 + number, 1000 + number))
    assert len(list(tree.parent.iterdir())) == code.KEPT_TREES


async def test_a_cancelled_fetch_leaves_nothing_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the engine's end; the whole group of processes goes."""
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nsleep 1000 &\necho $! > {tmp_path}/pid; wait\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    task = asyncio.create_task(fetch(tmp_path / "code", _source("file:///x"), None, attempt="j1-1"))
    pid = tmp_path / "pid"
    await until(lambda: pid.exists() and pid.read_text().strip())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    sleeper = Path("/proc") / pid.read_text().strip() / "stat"
    await until(lambda: not sleeper.exists() or " Z " in sleeper.read_text())


async def test_progress_is_told() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"remote: Counting objects:   3% (1/33)\rReceiving objects:  41% (9/22), 1 MiB\rfatal: x")
    stream.feed_eof()
    told: list[str] = []
    await code._follow(stream, told.append)
    assert told == ["receiving objects: 41 %"]
