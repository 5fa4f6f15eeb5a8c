"""Commands whose modules are loaded when they are called: the list of commands must not cost what all of them need."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperCommand

PACKAGE = "gradkernels.bench.cli.commands"
HELP = {"help_option_names": ["-h", "--help"]}
"""What asks for help, of the list of commands and of each."""


class LazyCommand(TyperCommand):
    """A command of which only its name and what it is for are known until more is asked.

    Args:
        name: As it is typed.
        where: `module:function` in the package of the commands.
        summary: What it does, in a line.
        epilog: What stands below its options.
    """

    def __init__(self, name: str, where: str, summary: str, epilog: str | None = None) -> None:
        self._where = where
        super().__init__(name, help=summary, short_help=summary, epilog=epilog)

    @cached_property
    def whole(self) -> TyperCommand:
        """The command with its options."""
        module, _, function = self._where.partition(":")
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        run = getattr(import_module(f"{PACKAGE}.{module}"), function)
        alone.command(self.name, epilog=self.epilog, context_settings=HELP)(run)
        return cast("TyperCommand", typer.main.get_command(alone))

    @property
    def params(self) -> list[Any]:
        """The options and arguments."""
        return self.whole.params

    @params.setter
    def params(self, value: list[Any]) -> None:
        """Ignore those that every command begins with: none."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Read what was typed, as the whole command does.

        Args:
            info_name: What the command was called.
            args: What was typed behind it.
            parent: The context of the group.
            extra: Further settings of the context.
        """
        return self.whole.make_context(info_name, args, parent, **extra)
