"""How `make docs` builds the site: of the pages as they lie in the repository, so that links lead to the same places.

The groups of the navigation are the headings of `index.md`, and their pages the links below each. What the code can
say itself is put in where a page has a comment for it: see `from_code`.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import from_code  # noqa: E402

import gradkernels  # noqa: E402

project = "gradkernels"
author = "The gradkernels developers"
copyright = "2026, the gradkernels authors"
version = release = gradkernels.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["docs/**", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "results/README.md"]
exclude_patterns = [".venv", "build", "mutants", "**/.*", "**/__pycache__"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
smartquotes = False  # options of commands have two hyphens
nb_execution_mode = "off"  # the notebook holds its outputs, and tests/docs/test_notebook.py that they are still so

# Docstrings name types and shapes in words; overloads for type checkers would stand there as a wall.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # fields of a class, which its members would be a second time

html_theme = "furo"
html_title = "gradkernels"
html_static_path = ["static"]
html_css_files = ["wide_tables.css"]
html_extra_path = ["redirect"]  # the site's own address leads to docs/index.html
html_show_sourcelink = False
html_copy_source = False


def setup(app):
    """Put in what follows from the pages and from the code."""
    app.connect("source-read", from_code.fill_in)
    app.connect("autodoc-process-docstring", from_code.as_restructured_text, priority=400)
    return {"parallel_read_safe": True}
