"""The root command: opens the screen, runs the autopilot, or hands over to a verb that is loaded only then."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from gpuscale_tui import __version__
from gpuscale_tui.cli.common import config_option, home_option, load_settings, settings_of
from gpuscale_tui.cli.errors import guarded, pipe_closed
from gpuscale_tui.model.errors import nearest
from gpuscale_tui.store.home import Home

VERBS: Mapping[str, str] = MappingProxyType(
    {
        "submit": "submit",
        "queue": "queue",
        "show": "queue",
        "why": "queue",
        "cancel": "changes",
        "retry": "changes",
        "clone": "changes",
        "priority": "changes",
        "drill": "drill",
        "template": "template",
        "logs": "logs",
        "workers": "workers",
        "scale": "workers",
        "release": "workers",
        "audit": "audit",
        "reap": "audit",
        "costs": "costs",
        "checkpoints": "checkpoints",
        "get": "get",
        "ssh": "ssh",
        "forward": "forward",
        "market": "market",
        "rent": "market",
        "hosts": "hosts",
        "status": "status",
        "stop": "status",
        "config": "config",
        "notify": "notify",
        "doctor": "doctor",
        "demo": "demo",
        "completion": "completion",
    }
)
"""Each verb and the module of this package that has it, in the order in which help lists them."""

MODULE_OF = "gpuscale_tui.cli.{}"


class Root(click.Group):
    """A group whose verbs are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The verbs in the order in which they are best read."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The verb of this name, loaded now."""
        module = VERBS.get(cmd_name)
        if module is None:
            return None
        found = getattr(importlib.import_module(MODULE_OF.format(module)), cmd_name)
        return found if isinstance(found, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's, with the nearest right name in the refusal."""
        name = args[0]
        if name not in VERBS and not name.startswith("-"):
            ctx.fail(f"there is no verb {name!r}{nearest(name, VERBS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Like click's, but a reader that goes away is no failure of ours: it would become exit code 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return pipe_closed()

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> int:
        """Run; every error becomes a message and an exit code. Ends the process unless `standalone_mode` is off."""
        code = guarded(
            lambda: super(Root, self).main(args, prog_name or "gpuscale", complete_var, standalone_mode=False, **extra)
        )
        if standalone_mode:
            sys.exit(code)
        return code


@click.group(
    cls=Root,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Try it without an account or money: gpuscale demo",
)
@home_option
@config_option
@click.option("--autopilot", is_flag=True, help="Run the engine without a screen, with log lines on stdout.")
@click.option("--exit-when-idle", is_flag=True, help="With --autopilot: end when nothing waits, runs or is rented.")
@click.option("--readonly", is_flag=True, help="The screen only shows: it starts no engine and changes nothing.")
@click.version_option(__version__, prog_name="gpuscale", message="%(prog)s %(version)s")
@click.pass_context
def root(  # noqa: PLR0917 - click names them
    ctx: click.Context, home: Home, config: Path | None, autopilot: bool, exit_when_idle: bool, readonly: bool
) -> int | None:
    """Rent GPUs when a queue of training jobs needs them, run the jobs there, never over an hourly budget.

    Without a verb it opens the screen, and runs the engine unless one runs already.
    """
    if exit_when_idle and not autopilot:
        raise click.UsageError("--exit-when-idle goes with --autopilot")
    if readonly and (autopilot or ctx.invoked_subcommand is not None):
        raise click.UsageError("--readonly is an option of the screen alone: `gpuscale --readonly`")
    if ctx.invoked_subcommand is not None:
        if autopilot:
            raise click.UsageError(f"--autopilot is no option of {ctx.invoked_subcommand}")
        return None
    return _autopilot(home, config, exit_when_idle) if autopilot else _screen(home, config, readonly=readonly)


def _autopilot(home: Home, config: Path | None, exit_when_idle: bool) -> int:
    settings = settings_of(config)
    from gpuscale_tui.engine.autopilot import run_autopilot

    return run_autopilot(
        home, settings, exit_when_idle=exit_when_idle, environ=os.environ,
        read_again=lambda: load_settings(config).settings,
    )  # fmt: skip


def _screen(home: Home, config: Path | None, *, readonly: bool) -> int:
    check_terminal(os.environ)
    settings = settings_of(config)
    from gpuscale_tui.tui.app import run_app
    from gpuscale_tui.tui.run import DEMO

    code: int = run_app(home, settings, config, os.environ, readonly=readonly)
    return code if code != DEMO else _demo()


def _demo() -> int:
    """The demonstration, as the set-up offers it."""
    from gpuscale_tui.cli.demo import demo

    code: int = click.get_current_context().invoke(demo, autopilot=False, keep=False)
    return code


def check_terminal(environ: Mapping[str, str]) -> None:
    """Refuse to open the screen where there is none: Textual would spin at the end of stdin."""
    hint = "use a verb such as `gpuscale queue`, or run without a screen by `gpuscale --autopilot`"
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError(f"the screen needs a terminal on stdin and stdout: {hint}")
    if environ.get("TERM") == "dumb":
        raise click.UsageError(f"the screen needs a terminal that can place text, and TERM is 'dumb': {hint}")
