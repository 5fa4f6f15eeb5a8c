"""What tests/survivors.toml gives reasons for is still there: a function of the code, and a line that a fault made."""

import ast
import fnmatch
import re
import tomllib
from pathlib import Path

import pytest
from survivors import REASONS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MUTATED = PROJECT["tool"]["mutmut"]["only_mutate"]
# What a fault can put into a line that is of another: values and operators, and names of methods that are exchanged.
NEW_WORDS = {"none", "true", "false", "and", "or", "not", "in", "is", "rpartition"}


def source_of(function: str) -> list[str]:
    """Return the lines of a function, without their indents; none if there is no such function to put faults into."""
    parts = function.split(".")
    modules = [(ROOT.joinpath(*parts[:size]).with_suffix(".py"), parts[size:]) for size in range(1, len(parts))]
    for path, names in modules:
        if not path.is_file() or not any(fnmatch.fnmatch(str(path.relative_to(ROOT)), one) for one in MUTATED):
            continue
        source = path.read_text(encoding="utf-8")
        node = ast.parse(source)
        for name in names:
            named = [one for one in node.body if getattr(one, "name", None) == name]
            if not named:
                return []
            node = named[-1]
        if isinstance(node, ast.FunctionDef):
            return [line.strip() for line in source.splitlines()[node.lineno - 1 : node.end_lineno]]
    return []


def words(line: str) -> set[str]:
    """Return the words of a line in small letters: faults exchange letters' sizes, and put XX around texts."""
    return {word.replace("XX", "").lower() for word in re.findall(r"[^\W\d]\w*", line)}


def could_be_made(change: str, source: list[str]) -> bool:
    """Whether a small fault makes a line of the source into this one, or takes this one away where it has a minus."""
    if change.startswith("-"):
        return change[1:] in source
    return change not in source and any(words(change) - words(line) <= NEW_WORDS | {""} for line in source)


@pytest.mark.parametrize("function", REASONS)
def test_what_a_reason_is_given_for_is_a_line_of_a_function_that_is_there(function):
    source = source_of(function)
    assert source, f"there is no function {function} among what is mutated"
    assert [change for change in REASONS[function] if not could_be_made(change, source)] == []


@pytest.mark.parametrize(
    "function",
    [
        "gradkernels.bench.stats.estimates._gone",
        "gradkernels.bench.stats.gone.holm",
        "gradkernels.bench.stats.estimates",
        "gradkernels.bench.stats.estimates.holm.values",
        "gradkernels.bench.doctor.drift",
    ],
)
def test_what_is_no_function_that_faults_are_put_into_is_seen(function):
    assert source_of(function) == []
    assert source_of("gradkernels.bench.stats.estimates.holm")[-1].startswith("return ")


@pytest.mark.parametrize(
    ("change", "made"),
    [
        ("total = sum(values, start=2) or None", True),
        ("total = sum(values, )", True),
        ('part = name.rpartition("XX:XX")', True),
        ("-if total > 0:", True),
        ("total = sum(entries, start=1)", False),
        ("-if total >= 0:", False),
        ("if total > 0:", False),
    ],
)
def test_a_line_that_no_fault_could_make_is_seen(change, made):
    source = ["def f(values, name):", "total = sum(values, start=1)", 'part = name.partition(":")', "if total > 0:"]
    assert could_be_made(change, source) == made
