"""What is written for the shell reads back as exactly what was meant, in each shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuscale_tui.remote.errors import LaunchRefused
from gpuscale_tui.remote.launch import SHELL_OWN_NAMES, Launch, launch_script, quote
from tests.remote.conftest import SHELLS, shell_link

NASTY = st.sampled_from([*"'\"\\\n$`!*~ \t#=-\r\x01\x7f\x81"])
TEXT = st.lists(NASTY | st.characters(exclude_characters="\0", exclude_categories=()), max_size=40).map("".join)
WORD = TEXT.map(lambda text: text.encode("utf-8", "replace").decode("utf-8")) | st.binary(max_size=40).map(
    lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)
# Names that change how the machine's own programs start belong to the user, but would break the test's printf.
LOADER_NAMES = {"PATH", "ENV", "BASH_ENV", "POSIXLY_CORRECT"}
NAME = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True).filter(
    lambda name: name not in SHELL_OWN_NAMES | LOADER_NAMES and not name.startswith(("LD_", "BASH_", "GLIBC", "MALLOC"))
)


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@pytest.fixture(params=list(SHELLS))
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return shell_link(request.param, tmp_path / "shell")


def source(shell: str, place: Path, launch: Launch) -> bytes:
    """Run the launch as the runner's child does; its stdout."""
    (place / "work").mkdir(exist_ok=True)
    (place / "launch").write_bytes(launch_script(launch, shell))
    script = 'set -- "$PWD" launch; . "./$2"'
    done = subprocess.run([shell, "-c", script], cwd=place, capture_output=True, check=True, timeout=60)
    assert (place / "launch").read_bytes() == b""
    return done.stdout


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(words=st.lists(WORD, min_size=1, max_size=12))
def test_arguments_round_trip(shell: str, tmp_path: Path, words: list[str]) -> None:
    output = source(shell, tmp_path, Launch(argv=("/usr/bin/printf", r"%s\0", *words)))
    assert output == b"".join(encode(word) + b"\0" for word in words)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(env=st.dictionaries(NAME, WORD, min_size=1, max_size=12))
def test_environment_round_trip(shell: str, tmp_path: Path, env: dict[str, str]) -> None:
    output = source(shell, tmp_path, Launch(argv=("/usr/bin/env", "-0"), env=env))
    seen = dict(entry.split(b"=", 1) for entry in output.split(b"\0") if entry)
    for name, value in env.items():
        assert seen[encode(name)] == encode(value)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(words=st.lists(WORD, min_size=1, max_size=12))
def test_quoted_words_are_words(shell: str, tmp_path: Path, words: list[str]) -> None:
    script = b"/usr/bin/printf '%s\\0' " + b" ".join(encode(quote(word)) for word in words)
    done = subprocess.run([shell, "-c", script], capture_output=True, check=True, timeout=60)
    assert done.stdout == b"".join(encode(word) + b"\0" for word in words)


def test_a_shell_line_is_one_line_for_the_shell(shell: str, tmp_path: Path) -> None:
    line = "for x in a 'b c'; do echo \"<$x>\"; done\n# it's a comment\nexit 0"
    assert source(shell, tmp_path, Launch(command=line)) == b"<a>\n<b c>\n"


def test_the_longest_strings_arrive(shell: str, tmp_path: Path) -> None:
    env = {"A": "'" * 30_000 + "\n" * 30_000, "B": "x" * 131_000}
    output = source(shell, tmp_path, Launch(argv=("/usr/bin/env", "-0"), env=env))
    seen = dict(entry.split(b"=", 1) for entry in output.split(b"\0") if entry)
    assert (seen[b"A"], seen[b"B"]) == (encode(env["A"]), encode(env["B"]))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({}, "either"),
        ({"command": "x", "argv": ("x",)}, "either"),
        ({"argv": ("",)}, "empty"),
        ({"command": "a\0b"}, "NUL"),
        ({"argv": ("a", "b\0")}, "argument 1 has a NUL"),
        ({"command": "x", "env": {"A B": "x"}}, "'A B'"),
        ({"command": "x", "env": {"1A": "x"}}, "'1A'"),
        ({"command": "x", "env": {"A\n": "x"}}, "environment name"),
        ({"command": "x", "env": {"": "x"}}, "environment name"),
        ({"command": "x", "env": {"UID": "0"}}, "UID"),
        ({"command": "x", "env": {"A": "\0"}}, "value of A"),
        ({"command": "x", "env": {"A": "\ud800"}}, "value of A"),
        ({"command": "x" * 200_000}, "200000 bytes"),
        ({"command": "x", "env": {f"A{n}": "x" * 100_000 for n in range(11)}}, "limit"),
        ({"command": "x", "runtime_limit_sec": 0}, "runtime limit"),
        ({"command": "x", "grace_sec": -1}, "grace"),
    ],
)
def test_what_cannot_arrive_exactly_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(LaunchRefused, match=says):
        Launch(**wrong)  # type: ignore[arg-type]


def test_a_jobs_own_output_directory_is_its_own() -> None:
    """Jobs had that name before we gave it."""
    assert b'OUTPUT_DIR="$1/outputs"' in launch_script(Launch(command="true"), "/bin/sh")
    own = launch_script(Launch(command="true", env={"OUTPUT_DIR": "/mine"}), "/bin/sh")
    assert (own.count(b"OUTPUT_DIR"), b"export OUTPUT_DIR='/mine'" in own) == (1, True)
