"""`completion`: the script that lets a shell complete verbs, options and ids."""

from __future__ import annotations

import click

from gpuscale_tui.cli.common import verb

VARIABLE = "_GPUSCALE_COMPLETE"


@verb(example='eval "$(gpuscale completion bash)"      # in ~/.bashrc\ngpuscale completion fish | source')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "gpuscale", VARIABLE).source())
