"""A report as one HTML page, which needs no network and no other file."""

from __future__ import annotations

import html
from collections.abc import Sequence

from gradkernels.names import harmless

STYLE = (
    "body{font-family:sans-serif;margin:2em;max-width:70em}table{border-collapse:collapse}"
    "td,th{border-bottom:1px solid #ccc;padding:.3em .8em;text-align:left}"
    ".ok{color:#176d2e}.wrong{color:#b00020;font-weight:bold}.raised{color:#8a5a00}.skipped{color:#666}"
)


def audit_page(
    title: str, verdict: str, passed: bool, table: Sequence[Sequence[str]], notes: Sequence[tuple[str, str]]
) -> str:
    """Return the page.

    Args:
        title: What was audited.
        verdict: What came of it.
        passed: Whether the audit is passed.
        table: The rows, the first one of headings; the third cell is the outcome.
        notes: What is said of a trial, by its name.
    """
    head, *rows = table
    headings = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "\n".join(f"<tr>{''.join(_cells(row))}</tr>" for row in rows)
    said = "\n".join(f"<li><b>{escape(name)}</b>: {escape(text)}</li>" for name, text in notes)
    state = "ok" if passed else "wrong"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Audit of {escape(title)}</title>\n'
        f"<style>{STYLE}</style></head><body>\n<h1>Audit of per-sample gradients</h1>\n<p>{escape(title)}</p>\n"
        f'<p class="{state}">{escape(verdict)}</p>\n<table>\n<tr>{headings}</tr>\n{body}\n</table>\n'
        f"<ul>\n{said}\n</ul>\n</body></html>\n"
    )


def escape(text: str) -> str:
    """Return a text as HTML shows it, control characters as escapes."""
    return html.escape(harmless(text))


def _cells(row: Sequence[str]) -> list[str]:
    outcome = row[2]
    marked = [f'<td class="{escape(outcome)}">{escape(cell)}</td>' if cell is outcome else None for cell in row]
    return [cell or f"<td>{escape(text)}</td>" for cell, text in zip(marked, row, strict=True)]
