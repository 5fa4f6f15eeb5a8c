"""The notebook of the documentation: its code runs here, and prints what stands below each cell."""

import contextlib
import io
import json
from pathlib import Path

import matplotlib as mpl
import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "estimator.ipynb"
CELLS = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def printed():
    """What each cell prints, all run one after another without a screen."""
    names, found = {"__name__": "__main__"}, []
    with mpl.rc_context({"backend": "agg"}):
        for cell in CELLS:
            with contextlib.redirect_stdout(io.StringIO()) as shown:
                exec("".join(cell["source"]), names)
            found.append(shown.getvalue())
    return found


def test_every_cell_prints_what_stands_below_it(printed):
    shown = [
        "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")
        for cell in CELLS
    ]
    assert printed == shown


def test_it_answers_the_coursework(printed):
    text = "".join(printed)
    assert text.count("[-7.033  -1.2066]") == 4 + 2  # by four ways, by the mean of the rows and by gk.gradient
    assert text.count("[-5.1731 -2.2966]") == 4
    assert text.count("agree to rounding: True") == 2


def test_its_pictures_are_there():
    pictures = [output for cell in CELLS for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert len(pictures) == 3
    assert all(len(picture["data"]["image/png"]) > 5000 for picture in pictures)
    assert NOTEBOOK.stat().st_size < 300_000
