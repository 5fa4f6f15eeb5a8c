"""README and docs do what they say: their Python prints it."""

from __future__ import annotations

import re

import pytest
import scripts
from page_checks import ROOT, having, of_language, require_output


def expected(source: str) -> str:
    """What a source says that it prints: comments behind `print`, or alone on the lines below."""
    lines, says, below = [], re.compile(r"\s*print\(.*?\)(?:  # (.*))?$"), False
    for line in source.splitlines():
        if found := says.match(line):
            lines += [found[1]] if found[1] else []
            below = not found[1]
        elif below and line.startswith("# "):
            lines.append(line[2:])
        else:
            below = False
    return "\n".join(lines) + "\n"


@having("python")
def test_the_python_of_a_page_prints_what_it_says(page, tmp_path):
    source = "\n".join(of_language(page, "python"))
    variables = {"PYTHONPATH": str(ROOT), "GRADKERNELS_WISDOM": str(tmp_path / "wisdom.json")}
    require_output(expected(source), scripts.output_of(source, tmp_path, variables), page.name)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("print(f(1))  # (1, 2)\n# a comment\n", "(1, 2)\n"),
        ("for i in (1, 2):\n    print(i)\n# 1\n# 2\n\n# a comment\n", "1\n2\n"),
    ],
)
def test_expectations_are_comments_of_prints(source, says):
    assert expected(source) == says


def test_output_that_differs_is_seen():
    with pytest.raises(AssertionError, match="prints"):
        require_output("1\n...\n3\n", "1\n2\n4\n", "it")
