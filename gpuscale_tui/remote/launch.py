"""What an attempt runs, and how it is written down so that a shell reads back exactly that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuscale_tui.model.jobs import STOP_SIGNALS
from gpuscale_tui.remote.errors import LaunchRefused

ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Names that shells make read-only, compute on reading or set by themselves: an assignment would fail or not arrive.
SHELL_OWN_NAMES = frozenset(
    (
        *(
            "_",
            "CHECKPOINT_DIR",
            "EUID",
            "IFS",
            "LINENO",
            "OLDPWD",
            "OPTIND",
            "PPID",
            "PWD",
            "SHELLOPTS",
            "SHLVL",
            "UID",
        ),
        *("BASHOPTS", "BASHPID", "BASH_ALIASES", "BASH_ARGC", "BASH_ARGV", "BASH_ARGV0", "BASH_CMDS", "BASH_COMMAND"),
        *("BASH_LINENO", "BASH_REMATCH", "BASH_SOURCE", "BASH_SUBSHELL", "BASH_VERSINFO", "COMP_WORDBREAKS"),
        *("DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS", "FUNCNAME", "GROUPS", "HISTCMD", "RANDOM", "SECONDS", "SRANDOM"),
    )
)
# Linux refuses one argument or variable longer than 128 KiB (MAX_ARG_STRLEN), and all together beyond 2 MiB.
ONE_STRING_BYTES = 128 * 1024 - 1
ALL_STRINGS_BYTES = 1024 * 1024
LONGEST_SECONDS = 10 * 365 * 86_400
GIVEN = "given"
"""File in an attempt's directory with what staging found out for its environment (`given_script`)."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run: either a shell line (`command`, run by `sh -c`) or `argv`, run exactly as given.

    `env` is added to what the machine's login gives; a value holds any character but NUL (bytes that are no UTF-8
    as surrogate escapes). `runtime_limit_sec`, None for no limit, is enforced on the machine; `signal` is the polite
    one that ends it (`STOP_SIGNALS`), `grace_sec` lies between that and KILL. Raises LaunchRefused for what could not
    arrive exactly.
    """

    command: str = ""
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    runtime_limit_sec: int | None = None
    grace_sec: int = 30
    signal: str = "TERM"

    def __post_init__(self) -> None:
        if bool(self.command) == bool(self.argv):
            raise LaunchRefused("a launch has either a command line or an argument list, not both and not neither")
        if self.argv and not self.argv[0]:
            raise LaunchRefused("the first argument, the program, is empty")
        for name in self.env:
            check_environment_name(name)
        self._check_sizes()
        if self.runtime_limit_sec is not None and not 1 <= self.runtime_limit_sec <= LONGEST_SECONDS:
            raise LaunchRefused(f"runtime limit of {self.runtime_limit_sec} s: must be 1 to {LONGEST_SECONDS}")
        if not 0 <= self.grace_sec <= LONGEST_SECONDS:
            raise LaunchRefused(f"grace of {self.grace_sec} s: must be 0 to {LONGEST_SECONDS}")
        if self.signal not in STOP_SIGNALS:
            raise LaunchRefused(f"signal {self.signal!r}: must be one of {', '.join(STOP_SIGNALS)}")

    def _check_sizes(self) -> None:
        strings = {"the command": self.command}
        strings |= {f"argument {number}": text for number, text in enumerate(self.argv)}
        strings |= {f"the value of {name}": value for name, value in self.env.items()}
        total = 0
        for what, text in strings.items():
            size = len(_encode(what, text))
            total += size
            if size > ONE_STRING_BYTES:
                raise LaunchRefused(f"{what} has {size} bytes; Linux takes at most {ONE_STRING_BYTES}: use a file")
        if total > ALL_STRINGS_BYTES:
            raise LaunchRefused(f"command and environment have {total} bytes, the limit is {ALL_STRINGS_BYTES}")


def check_environment_name(name: str) -> None:
    """Raise LaunchRefused unless a variable of this name arrives at the command with the value it was given."""
    if not ENVIRONMENT_NAME.fullmatch(name):
        raise LaunchRefused(f"environment name {name!r}: letters, digits and _ only, not beginning with a digit")
    if name in SHELL_OWN_NAMES:
        raise LaunchRefused(f"environment name {name}: shells (or gpuscale) set it themselves; choose another name")


def quote(text: str) -> str:
    """One word for a POSIX shell that reads back as exactly `text`; nothing in it is special to the shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def launch_script(launch: Launch, shell: str) -> bytes:
    """The file that becomes the command: sourced in the attempt's directory by the runner's child.

    On entry $1 is the attempt's directory, $2 this file, and the words after them a wrapper to run the command
    under. Arguments come first, while the machine's own locale still holds; then the environment; the last group is
    read whole before it empties the file, so that no secret stays on the machine's disk.
    """
    words = launch.argv or (shell, "-c", launch.command)
    lines = ['set -- "$@" ' + " ".join(quote(word) for word in words)]
    lines += [f"export {name}={quote(value)}" for name, value in launch.env.items()]
    lines.append(f'if [ -e "$1/{GIVEN}" ]; then . "$1/{GIVEN}"; fi')
    outputs = "" if "OUTPUT_DIR" in launch.env else ' OUTPUT_DIR="$1/outputs"'
    place = f'export CHECKPOINT_DIR="$1/checkpoints"{outputs}; cd "$1/work" || exit 126; export PWD'
    lines.append(f'{{ : > "$2"; {place}; shift 2; exec "$@"; }}')
    return _encode("the launch", "\n".join(lines) + "\n")


def given_script(shared: Mapping[str, str]) -> bytes:
    """The file GIVEN: variables, each with the absolute path of something below the base that attempts share.

    `shared`: paths relative to the base by name. It is read where $1 is the attempt's directory. Raises LaunchRefused.
    """
    for name in shared:
        check_environment_name(name)
    lines = [f'export {name}="${{1%/*}}"/{quote(path)}' for name, path in shared.items()]
    return _encode("the data", "".join(f"{line}\n" for line in lines))


def _encode(what: str, text: str) -> bytes:
    if "\0" in text:
        raise LaunchRefused(f"{what} has a NUL byte, which no program can be given")
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise LaunchRefused(f"{what} has characters that are no text: {error.reason}") from error
