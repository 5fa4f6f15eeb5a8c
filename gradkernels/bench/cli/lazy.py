"""Commands whose modules are loaded when they are called: neither the list of commands nor help costs what they need.

Options are read, and explained, by the signature of a command alone: of its module's source only that and what it names
are run. The module itself is imported when the command is called.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
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
        self.where = where
        super().__init__(name, help=summary, short_help=summary, epilog=epilog)

    @cached_property
    def whole(self) -> TyperCommand:
        """The command with its options."""
        module, _, function = self.where.partition(":")
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        run = with_signature_of(f"{PACKAGE}.{module}", function)
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


def with_signature_of(module: str, name: str) -> Callable[..., Any]:
    """Return a function with the signature and the docstring of another, which it imports and calls when it is called.

    Args:
        module: Name of the module, which is not imported here.
        name: Of the function in it.
    """
    where = find_spec(module)
    assert where is not None
    assert where.origin is not None
    body = ast.parse(Path(where.origin).read_bytes()).body
    wanted = next(one for one in body if isinstance(one, ast.FunctionDef) and one.name == name)
    documentation = wanted.body[:1]
    wanted.body = [*documentation, *ast.parse("return _call(**locals())").body]
    needed = [*_needed(wanted.args, body), wanted]

    def call(**given: Any) -> Any:
        return getattr(import_module(module), name)(**given)

    # Annotations stay text, as in the module: typer looks up what they name among the names here.
    own: dict[str, Any] = {"__name__": module, "_call": call}
    text = ast.unparse(ast.Module([*ast.parse("from __future__ import annotations").body, *needed], []))
    exec(compile(text, where.origin, "exec"), own)
    return cast("Callable[..., Any]", own[name])


def _needed(part: ast.AST, body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """Return the statements of a module that bring what a part of it names, in the order of the module."""
    found: list[ast.stmt] = []
    wanted = _names([part])
    while more := [one for one in body if one not in found and _brings(one) & wanted]:
        found += more
        wanted |= _names(more)
    return [_only(one, wanted) for one in body if one in found]


def _names(parts: Sequence[ast.AST]) -> set[str]:
    return {node.id for part in parts for node in ast.walk(part) if isinstance(node, ast.Name)}


def _brings(statement: ast.stmt) -> set[str]:
    """Return the names that an import or an assignment binds."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _only(statement: ast.stmt, wanted: set[str]) -> ast.stmt:
    """Return a statement; of an import what is wanted alone."""
    if isinstance(statement, ast.ImportFrom):
        aliases = [alias for alias in statement.names if (alias.asname or alias.name) in wanted]
        return ast.ImportFrom(statement.module, aliases, statement.level)
    return statement
