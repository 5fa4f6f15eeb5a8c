"""Draw what the methods do, one SVG each: `python docs/drawings/draw.py` writes them anew beside this file.

A drawing is some lanes below each other; a lane is a row of boxes, joined by arrows. What is data is a white box, what
is computed a filled one, what comes out a bold one.
"""

from html import escape
from pathlib import Path

HERE = Path(__file__).parent
WIDTH, LANE, HEIGHT, FONT = 520, 46, 30, 13
FILL = {"data": "#ffffff", "work": "#dbe7f5", "python": "#f6dfc2", "result": "#d8ecd5", "note": "none"}

DRAWINGS = {
    "loop": (
        "one forward and one backward pass for each sample",
        [
            [("x_1", "data"), ("forward", "work"), ("loss 1", "data"), ("backward", "work"), ("g_1", "result")],
            [("x_2", "data"), ("forward", "work"), ("loss 2", "data"), ("backward", "work"), ("g_2", "result")],
            [("...", "note"), ("n times, one after the other", "note")],
        ],
    ),
    "vmap": (
        "the gradient of one sample's loss, each of its operations done for all samples",
        [
            [("x: n samples", "data"), ("op 1, n times", "work"), ("op 2, n times", "work"), ("n rows", "result")],
            [("chunk 1", "data"), ("chunk 2", "data"), ("so that what lies between fits into memory", "note")],
        ],
    ),
    "hooks": (
        "one forward and one backward pass of the batch; each layer's input and output gradient are kept",
        [
            [("batch", "data"), ("forward", "work"), ("losses", "data"), ("backward", "work")],
            [
                ("layer input a_i", "data"),
                ("output gradient b_i", "data"),
                ("b_i times a_i", "work"),
                ("g_i", "result"),
            ],
        ],
    ),
    "norms": (
        "norms of the same: two lengths instead of a matrix",
        [
            [("a_i", "data"), ("|a_i|", "work"), ("|b_i| |a_i|", "work"), ("|g_i|", "result")],
            [("b_i", "data"), ("|b_i|", "work"), ("no matrix is formed", "note")],
        ],
    ),
    "clipped": (
        "clipped sums: norms first, then one matrix product of scaled output gradients",
        [
            [("|g_i|", "data"), ("w_i = min(1, C / |g_i|)", "work")],
            [("w_i b_i", "data"), ("one product over all samples", "work"), ("sum of w_i g_i", "result")],
        ],
    ),
    "recorded": (
        "the operations of the hooks, recorded once, then run without Python between them",
        [
            [("Python", "python"), ("op", "work"), ("Python", "python"), ("op", "work"), ("first call", "note")],
            [("op", "work"), ("op", "work"), ("op", "work"), ("op", "work"), ("every later call", "note")],
        ],
    ),
    "compiled": (
        "torch.compile: many operations become few loops over the data",
        [
            [("op", "work"), ("op", "work"), ("op", "work"), ("compiler, tens of seconds", "python")],
            [("one loop that does all three", "work"), ("n rows", "result"), ("every later call", "note")],
        ],
    ),
    "closed": (
        "regressions, closed form: a slope for each sample, times its features",
        [
            [("x", "data"), ("eta = x theta", "work"), ("slope s_i", "work"), ("s_i (1, x_i)", "result")],
            [("three passes over memory, one for each step", "note")],
        ],
    ),
    "fused": (
        "regressions, fused: everything about a sample while it is in the processor",
        [
            [("x_i", "data"), ("eta, slope, sum: one loop", "work"), ("what was asked for", "result")],
            [("one pass over memory, and nothing else is formed", "note")],
        ],
    ),
}


def svg(says: str, lanes: list[list[tuple[str, str]]]) -> str:
    """Return a drawing with what it says for those who do not see it."""
    height = LANE * len(lanes) + 8
    body = "".join(_lane(lane, 8 + row * LANE) for row, lane in enumerate(lanes))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" '
        f'font-family="sans-serif" font-size="{FONT}"><title>{escape(says)}</title>'
        f'<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>{body}</svg>\n'
    )


def _lane(lane: list[tuple[str, str]], top: int) -> str:
    """Return a row of boxes from left to right; notes have no box and no arrow."""
    left, parts, before = 8.0, "", ""
    for text, kind in lane:
        width = 7 * len(text) + (0 if kind == "note" else 18)
        if before and "note" not in (before, kind):
            parts += _arrow(left - 20, left - 2, top + HEIGHT / 2)
        parts += _box(text, kind, (left, top, width))
        left, before = left + width + 22, kind
    return parts


def _arrow(start: float, end: float, y: float) -> str:
    return f'<path d="M{start:g} {y:g}H{end:g}" stroke="#555" stroke-width="1.4" marker-end="url(#end)"/>'


def _box(text: str, kind: str, place: tuple[float, float, float]) -> str:
    left, top, width = place
    frame = (
        ""
        if kind == "note"
        else f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{HEIGHT}" rx="4" fill="{FILL[kind]}" '
        f'stroke="#555" stroke-width="{2 if kind == "result" else 1}"/>'
    )
    at = f'y="{top + HEIGHT / 2 + FONT * 0.36:g}" fill="#222"'
    at += f' x="{left:g}"' if kind == "note" else f' x="{left + width / 2:g}" text-anchor="middle"'
    return f"{frame}<text {at}>{escape(text)}</text>"


if __name__ == "__main__":
    for name, drawing in DRAWINGS.items():
        (HERE / f"{name}.svg").write_text(svg(*drawing), encoding="utf-8")
