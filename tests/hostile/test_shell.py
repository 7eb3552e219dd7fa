"""No string breaks out of a shell: thousands of random ones through real shells, by every way that leads there."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any, cast

import pytest

from gpuscale_tui.model.errors import FieldError
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.remote.attempts import AttemptRef
from gpuscale_tui.remote.connection import Machine, check_endpoint
from gpuscale_tui.remote.download import GET
from gpuscale_tui.remote.inspection import HASHES
from gpuscale_tui.remote.launch import Launch, launch_script, quote
from gpuscale_tui.remote.names import lines
from gpuscale_tui.remote.paths import check_directory, is_storable
from gpuscale_tui.remote.site import LINK
from gpuscale_tui.remote.untar import Untar
from gpuscale_tui.remote.upload import BEGIN, FINISH, PUT

SHELLS = [path for path in ("/bin/dash", "/bin/bash") if Path(path).exists()]
COUNT = 5_000
PIECES = (
    "'", '"', "\\", "`", "$", "$(", ")", "${", "}", ";", "&", "&&", "|", "<", ">", "\n", "\r", "\t", " ", "*", "?", "[",
    "]", "~", "#", "!", "!!", "^", "=", "-", "--", "-oProxyCommand=touch owned", "$(touch owned)", "`touch owned`",
    "'; touch owned; '", "\x1b[2J", "\x7f", "\x80", "é", "日", "\u202e", "%s", "%n", "\\x27", "{a,b}", "$IFS", "$0",
    "$'", "\\'", "a", "B", "0",
)  # fmt: skip
OPTIONS = (
    "-oProxyCommand=touch owned", "-F/tmp/config", "--", "-", "a b", "a;b", "a\nb", "$(id)", "a/b", "a@b", "",
    "x" * 300,
)  # fmt: skip


def random_strings(count: int, seed: int) -> list[str]:
    """Strings of what shells find special, the same ones in every run; without a NUL, which no program can be given."""
    dice = random.Random(seed)
    return ["".join(dice.choice(PIECES) for _ in range(dice.randrange(0, 9))) for _ in range(count)]


def encoded(texts: list[str]) -> bytes:
    return b"".join(text.encode("utf-8", "surrogateescape") + b"\0" for text in texts)


def run(shell: str, script: bytes, place: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run a text as a login shell would, with `place` as the home and the present directory; stdout."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(place), "LC_ALL": "C.UTF-8"}
    done = subprocess.run([shell, "-c", script, *arguments], input=stdin, cwd=place, env=environ, capture_output=True)
    assert done.stderr == b"", done.stderr
    return done.stdout


def machine(shell: str = "/bin/sh") -> Machine:
    return Machine("here", cast("Any", None), "", shell)


@pytest.mark.parametrize("shell", SHELLS)
def test_shell_injection_by_a_quoted_word(shell: str, tmp_path: Path) -> None:
    """5,000 random strings, each quoted by our one function, come back as they were."""
    texts = random_strings(COUNT, 1)
    for start in range(0, COUNT, 1000):
        part = texts[start : start + 1000]
        script = "printf '%s\\0' " + " ".join(quote(text) for text in part)
        assert run(shell, script.encode(), tmp_path) == encoded(part)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_shell_injection_by_arguments_and_environment(shell: str, tmp_path: Path) -> None:
    """5,000 as arguments of a job, 5,000 as values of its environment."""
    (tmp_path / "work").mkdir()
    texts = random_strings(2 * COUNT, 2)
    for start in range(0, COUNT, 1000):
        words, values = texts[start : start + 1000], texts[COUNT + start : COUNT + start + 1000]
        env = {f"V{number}": value for number, value in enumerate(values)}
        dump = 'for word; do printf "%s\\0" "$word"; done; env -0'
        launch = Launch(argv=("/bin/sh", "-c", dump, "sh", *words), env=env)
        (tmp_path / "launch").write_bytes(launch_script(launch, shell))
        output = run(shell, b'set -- "$PWD" launch; . "./$2"', tmp_path).split(b"\0")
        assert b"".join(word + b"\0" for word in output[: len(words)]) == encoded(words)
        found = dict(entry.split(b"=", 1) for entry in output[len(words) :] if b"=" in entry)
        assert [found[f"V{number}".encode()] for number in range(len(values))] == encoded(values).split(b"\0")[:-1]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["launch", "work"]


def test_shell_injection_by_a_command(tmp_path: Path) -> None:
    """A job's command is a shell line, which is the user's to write: it reaches `sh -c` as one word, unchanged."""
    (tmp_path / "work").mkdir()
    dumper = tmp_path / "dumper"
    dumper.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    dumper.chmod(0o755)
    for text in filter(None, random_strings(120, 3)):
        (tmp_path / "launch").write_bytes(launch_script(Launch(command=text), str(dumper)))
        assert run("/bin/sh", b'set -- "$PWD" launch; . "./$2"', tmp_path) == encoded(["-c", text])


@pytest.mark.parametrize("shell", SHELLS)
def test_shell_injection_through_the_login_shell(shell: str, tmp_path: Path) -> None:
    """What our scripts get as arguments goes through the account's own shell first."""
    texts = random_strings(1000, 4)
    for start in range(0, 1000, 200):
        part = texts[start : start + 200]
        command = machine().command('shift; for word; do printf "%s\\0" "$word"; done', *part)
        assert run(shell, command.encode(), tmp_path) == encoded(part)


def test_shell_injection_by_names_of_files(tmp_path: Path) -> None:
    """Names in a working directory go there as a stream and come back by name: each with its own content."""
    names = sorted({name for name in random_strings(900, 5) if is_storable(name)})
    assert len(names) > 200
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT) as archive:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(name.encode())
            archive.addfile(entry, io.BytesIO(name.encode()))
    for script, stdin in ((BEGIN, b""), (PUT, stream.getvalue()), (FINISH, b"")):
        run("/bin/sh", machine().command(script, "base/work", "mark").encode(), tmp_path, stdin=stdin)
    assert sorted(path.name for path in (tmp_path / "base" / "work").iterdir()) == names
    output = run("/bin/sh", machine().command(HASHES, "base/work").encode(), tmp_path, stdin=lines(names))
    sums = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    assert output.decode("ascii").split() == ["gpuscale:begin", *sums]
    output = run("/bin/sh", machine().command(GET, "base/work").encode(), tmp_path, stdin=lines(names))
    target = tmp_path / "target"
    target.mkdir()
    untar = Untar(target, names, max_bytes=1_000_000)
    untar.feed(output.removeprefix(b"gpuscale:begin\n"))
    assert sorted(untar.done) == names
    assert all((target / name).read_bytes() == name.encode() for name in names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "target"]


def test_shell_injection_by_the_checkpoint_directory(tmp_path: Path) -> None:
    """The link is made where it was asked for, whatever that is called, and nowhere else."""
    work = tmp_path / "a" / "work"
    work.mkdir(parents=True)
    (tmp_path / "a" / "checkpoints").mkdir()
    for number, text in enumerate(random_strings(60, 6)):
        path = f"{number}{text}".replace("/", "_")[:100]
        if not JobSpec(image="x", command="x", checkpoint_dir=path).checkpoint_dir:
            continue
        run("/bin/sh", machine().command(LINK, f"a/work/{path}", "a/checkpoints").encode(), tmp_path)
        assert (work / path).is_symlink()
        assert (work / path).resolve() == tmp_path / "a" / "checkpoints"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    assert all(path.is_symlink() for path in work.iterdir())


def test_shell_injection_by_the_image_and_other_words() -> None:
    """What goes to a marketplace or into a path unquoted is of letters, digits and a few signs, or is refused."""
    harmless = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/:@- ")
    for text in random_strings(2000, 7):
        if set(text) <= harmless and text[:1].isalnum():
            continue
        for field in ("image", "gpu_type", "project", "provider"):
            with pytest.raises(FieldError):
                JobSpec(**{"image": "x", "command": "x", field: text})
        if text.startswith((".", "_")) and set(text) <= harmless:
            continue
        for refuse in (check_directory, lambda name: AttemptRef(name, "j1"), lambda name: AttemptRef(".g", name)):
            with pytest.raises(ValueError):
                refuse(text)


@pytest.mark.parametrize("word", OPTIONS)
def test_ssh_option_injection_is_refused(word: str) -> None:
    """As host and as user; and no client that reads options is ever started."""
    with pytest.raises(ValueError, match="host"):
        check_endpoint(Endpoint(word, 22, "root"))
    with pytest.raises(ValueError, match="user"):
        check_endpoint(Endpoint("192.0.2.1", 22, word))


def test_ssh_options_have_no_client_to_go_to() -> None:
    """SSH is spoken by a library in this process: no module of the product starts ssh, scp or a shell on this side."""
    product = Path(__file__).resolve().parents[2] / "gpuscale_tui"
    for file in product.rglob("*.py"):
        if "sandbox" not in file.parts:
            text = file.read_text(encoding="utf-8")
            assert not re.search(r"""[\[(]\s*"(ssh|scp|sftp|sh)",""", text), file
            assert "shell=True" not in text, file
            assert "os.system" not in text, file
