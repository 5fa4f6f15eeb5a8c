"""The page as a file: its template, style and script, plotly's script, and the data, all in one HTML text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from gradkernels.bench.report.page.contents import page_contents
from gradkernels.bench.report.page.sources import ReportSource

_STATIC = "gradkernels.bench.report.page"
_SCRIPTS = ("words.js", "charts.js", "tables.js", "history.js", "page.js")


def require_libraries() -> None:
    """Raise unless what draws the page is installed.

    Raises:
        ValueError: A library is missing; names it and the extra that brings it.
    """
    try:
        import jinja2  # noqa: F401
        import plotly  # noqa: F401
    except ModuleNotFoundError as missing:
        raise ValueError(f"a report needs {missing.name}: pip install 'gradkernels[bench]'") from None


def page(sources: Sequence[ReportSource]) -> str:
    """Return the page of some sources, which needs nothing beside itself.

    Raises:
        ValueError: None of them has a proven time, or a library that draws is missing.
    """
    require_libraries()
    contents = page_contents(sources)
    return _template().render(
        contents=contents,
        style=_static("page.css"),
        plotly=_plotly(),
        scripts=[_static(name) for name in _SCRIPTS],
    )


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    # Escapes every value; the data are JSON in which `<` is written as an escape, so that no text can end the script.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.from_string(_text("page.html.jinja"))


def _static(name: str) -> Any:
    from markupsafe import Markup

    return Markup(_text(name))  # of this package, and put into the page as it is


def _text(name: str) -> str:
    return (files(_STATIC) / "static" / name).read_text(encoding="utf-8")


def _plotly() -> Any:
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())
