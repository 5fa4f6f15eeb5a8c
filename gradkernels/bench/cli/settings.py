"""What pyproject.toml in the working folder says of options: `[tool.gradkernels.run]` has those of `run`, and so on.

They stand in for options that are not typed. Of `compare`, the thresholds have a reader of their own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradkernels.names import unknown

FILE = "pyproject.toml"
SETTINGS = "tool.gradkernels"
_HELP = ("--help", "-h")
_READ_ELSEWHERE = {"compare": ("delta", "fail-slower", "overrides")}
"""Keys of `gradkernels.bench.compare.thresholds_toml`."""


def with_home_folder(words: Sequence[str]) -> list[str]:
    """Return what was typed with the home folder for `~`, also behind the `=` of an option, where shells leave it."""
    return [_expanded(word) for word in words]


def _expanded(word: str) -> str:
    option, equals, value = word.partition("=")
    if equals and option.startswith("--"):
        return f"{option}={_at_home(value)}"
    return _at_home(word)


def _at_home(text: str) -> str:
    return os.path.expanduser(text) if text.startswith("~") and "/" in text else text


def settings_here(commands: Mapping[str, Any], words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the values of options by command and parameter, as the file in the working folder has them.

    Args:
        commands: Those that there are, by name.
        words: What was typed; where help is asked for, no file is read.

    Raises:
        ValueError: The file is no TOML, or says something of what does not exist; names file, table and key.
    """
    path = Path(FILE)
    if set(words) & set(_HELP) or not path.is_file():
        return {}
    found = _table(path)
    for command in found:
        if command not in commands:
            raise ValueError(f"{FILE}, [{SETTINGS}]: {unknown('command', command, commands)}")
    return {name: _of_command(name, commands[name], table) for name, table in found.items()}


def where_set(settings: Mapping[str, Mapping[str, Any]], words: Sequence[str], parameter: Any) -> str:
    """Return where a parameter's value comes from, to be put behind a message; nothing if it was typed.

    Args:
        settings: What `settings_here` returned.
        words: What was typed.
        parameter: The option; None if a message is about none.
    """
    command = words[0] if words else ""
    typed = any(word.partition("=")[0] in getattr(parameter, "opts", ()) for word in words)
    if typed or getattr(parameter, "name", None) not in settings.get(command, {}):
        return ""
    return f" ({FILE}, [{SETTINGS}.{command}])"


def _table(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        document = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{FILE}: not a TOML file ({error})") from None
    table: Any = document
    for name in SETTINGS.split("."):
        table = table.get(name, {}) if isinstance(table, dict) else {}
    if not isinstance(table, dict):
        raise ValueError(f"{FILE}: {SETTINGS} is {table!r}; write a table such as [{SETTINGS}.run]")
    return table


def _of_command(name: str, command: Any, table: Any) -> dict[str, Any]:
    where = f"{FILE}, [{SETTINGS}.{name}]"
    if not isinstance(table, dict):
        raise ValueError(f"{where}: {table!r} is no table; write one with options of {name}, a line for each")
    known = {option.lstrip("-"): one for one in command.params for option in one.opts if option.startswith("--")}
    values = {}
    for key, value in table.items():
        if key in _READ_ELSEWHERE.get(name, ()):
            continue
        option = key.replace("_", "-")
        if option not in known or option == "help":
            raise ValueError(f"{where}: {unknown('option', key, [one for one in known if one != 'help'])}")
        values[known[option].name] = _value(known[option], value, f"{where}: {key}")
    return values


def _value(option: Any, value: Any, where: str) -> Any:
    """Return a value as if it had been typed: a list is what commas or repetition would say."""
    if getattr(option, "is_flag", False):
        if not isinstance(value, bool):
            raise ValueError(f"{where} is {value!r}; write true or false")
        return value
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str | int | float) and not isinstance(part, bool) for part in parts):
        raise ValueError(f"{where} is {value!r}; write text, a number or a list of them")
    texts = [_at_home(str(part)) for part in parts]
    return texts if option.multiple else ",".join(texts)
