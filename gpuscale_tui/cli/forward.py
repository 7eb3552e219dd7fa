"""`forward`: a port of a job's machine, on this computer."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import IO, Any

import click

from gpuscale_tui.cli.common import home_option, note, read, verb
from gpuscale_tui.cli.formatting import print_lines
from gpuscale_tui.cli.ssh import PLACE, find
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.store.home import Home

SAID_BYTES = 4096
END_SEC = 10


class ForwardLost(GpuscaleError):
    """The way to the machine could not be opened, or was lost."""


class PortsType(click.ParamType[tuple[int, int]]):
    """`6006`, or `8080:6006`: the port here and the one over there."""

    name = "port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Both ports. Fails for what are none."""
        from gpuscale_tui.engine.reach import parse_ports
        from gpuscale_tui.model.errors import FieldError

        if isinstance(value, tuple):
            return value
        try:
            return parse_ports(value)
        except FieldError as error:
            self.fail(str(error), param, ctx)


@verb(example="gpuscale forward j17 6006\ngpuscale forward w3 18888:8888")
@click.argument("place", metavar="ID", type=PLACE)
@click.argument("ports", metavar="PORT[:REMOTE]", type=PortsType())
@home_option
def forward(place: tuple[str, int], ports: tuple[int, int], home: Home) -> None:
    """Make a port of a job's machine a port of this computer.

    It listens on 127.0.0.1 alone, until Ctrl+C or until the machine goes."""
    from gpuscale_tui.engine import reach

    target = read(home, find, place)
    local, remote = ports
    reach.check_free(local)
    words = reach.forward_command(home, target, local, remote)
    environ = {**os.environ, "SHELL": "/bin/sh"}
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, env=environ) as client,
    ):
        try:
            _follow(client, f"127.0.0.1:{local} is port {remote} of {target.where}; Ctrl+C ends it", reach.READY)
        except KeyboardInterrupt:
            note("ended")
            return
        finally:
            client.terminate()
        raise ForwardLost(f"{target.where}: {_words(said) or 'the connection was lost'}")


def _follow(client: subprocess.Popen[bytes], text: str, ready: str) -> None:
    """Say that it listens once it does; return when the client has ended."""
    assert client.stdout is not None
    for line in client.stdout:
        if line.strip().decode("utf-8", "replace") == ready:
            print_lines([text])
            sys.stdout.flush()
    client.wait()


def _words(said: IO[bytes]) -> str:
    """What the client complained about."""
    said.seek(0)
    return " ".join(said.read(SAID_BYTES).decode("utf-8", "replace").split())
