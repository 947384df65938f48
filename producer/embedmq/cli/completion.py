"""What does `embedmq completion` do?"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print a script that completes commands and options in your shell.

    \b
    Example:
      embedmq completion bash > ~/.local/share/bash-completion/completions/embedmq
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}: choose {', '.join(SHELLS)}")
    root = context.find_root().command
    click.echo(kind(root, {}, "embedmq", "_EMBEDMQ_COMPLETE").source())
