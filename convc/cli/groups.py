"""Groups of verbs that help whoever types none, or one that does not exist."""

from __future__ import annotations

import difflib
from pathlib import Path

import click

VERB_OF = {".so": "inspect", ".onnx": "compile"}
"""What is done with a file that is given without a verb, as an example."""


class Group(click.Group):
    """Without arguments it prints its help; a verb that is misspelt, or forgotten, is suggested."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if not args and not context.resilient_parsing:
            click.echo(context.get_help())
            context.exit(2)
        return super().parse_args(context, args)

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(context)
        if args[0] in known or args[0].startswith("-") or context.resilient_parsing:
            return super().resolve_command(context, args)
        raise click.UsageError(f"There is no command '{args[0]}'. {self._advice(context, args[0], known)}")

    def _advice(self, context: click.Context, given: str, known: list[str]) -> str:
        verb = VERB_OF.get(Path(given).suffix)
        if verb in known:
            return f"It looks like a file: `{context.command_path} {verb} {given}`, for instance."
        close = difflib.get_close_matches(given.lower(), known)
        if close:
            return f"Did you mean {' or '.join(map(repr, close))}?"
        return f"The commands are {', '.join(known)}."
