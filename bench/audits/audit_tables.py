"""What the page of audits has of their file, in Markdown."""

from __future__ import annotations

from itertools import groupby

SHORT = {"wrong": "**wrong**", "raised": "raises", "ok": "right"}
OTHER_FORM, WEIGHTED = "other form", "weighted"
TRIED = ("again", "reversed", "ties", "fewer", "one", "after", "lengths", "ragged", "parameters", "float64", "float16")


def versions(rows):
    """A row for each set-up: what is called, of which release."""
    from gradkernels.tool_audit.tools.set_ups import SET_UPS

    found = {row["tool"]: row for row in rows}
    lines = ["| name | library | release | what is called |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {row['package']} | {row['version']} | {SET_UPS[name].summary} |" for name, row in found.items()
    ]
    return "\n".join(lines) + "\n"


def models(rows):
    """A row for each model, a column for each set-up: how the batch came out, and what else did not."""
    return _by_set_up("model", [row for row in rows if not _is_of_jax(row)])


def functions(rows):
    """The same of each function of JAX."""
    return _by_set_up("function", [row for row in rows if _is_of_jax(row)])


def _is_of_jax(row):
    return "audit_functions" in row["problem"]


def _by_set_up(what, rows):
    tools = list(dict.fromkeys(row["tool"] for row in rows))
    lines = [f"| {what} | {' | '.join(tools)} |", f"|---|{'---|' * len(tools)}"]
    for name, of_model in groupby(rows, key=lambda row: row["model"]):
        trials = list(of_model)
        cells = [_cell([row for row in trials if row["tool"] == tool]) for tool in tools]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(trials):
    """What came of one audit; n = 0 is left to a column of its own."""
    outcomes = {row["trial"]: row["outcome"] for row in trials}
    if outcomes.get("batch") != "ok":
        first = next(row for row in trials if row["trial"] == "batch")
        return _kind(first) if first["outcome"] == "wrong" else SHORT[first["outcome"]]
    kinds = {}
    for row in trials:
        if row["trial"] in TRIED and row["outcome"] in ("wrong", "raised"):
            kind = _kind(row) if row["outcome"] == "wrong" else "raises"
            kinds.setdefault(kind, []).append(row["trial"])
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items()) or "right"


def _kind(row):
    """Return what a wrong trial is called in a cell."""
    if not row["sample"]:
        return OTHER_FORM
    return WEIGHTED if "a batch's mean weighs samples" in row["diagnosis"] else SHORT["wrong"]


def wrong(rows):
    """A row for each model and wrong first row: the set-ups, where it is, and what it is."""
    found = {}
    for _, of_audit in groupby(rows, key=lambda row: (row["model"], row["tool"])):
        first = next((row for row in of_audit if row["outcome"] == "wrong"), None)
        if first and first["sample"]:
            key = first["problem"], _place(first), _text(first["diagnosis"] or first["found"])
            found.setdefault(key, []).append(f"`{first['tool']}`")
    lines = ["| problem | set-ups | first wrong row | what it is |", "|---|---|---|---|"]
    lines += [f"| `{key[0]}` | {', '.join(tools)} | {key[1]} | {key[2]} |" for key, tools in found.items()]
    return "\n".join(lines) + "\n"


def _place(row):
    parts = [f"`{row['parameter']}`"] * bool(row["parameter"]) + [f"sample {row['sample']}"] * bool(row["sample"])
    return ", ".join([f"in {row['trial']}", *parts])


def forms(rows):
    """A row for each library and other form of its result, and the models."""
    return _by_model(rows, "returns", lambda row: row["outcome"] == "wrong" and not row["sample"])


def raised(rows):
    """A row for each library and exception on a batch of at least one sample, and the models."""
    return _by_model(rows, "raises", lambda row: row["outcome"] == "raised")


def _by_model(rows, heading, is_meant):
    found = {}
    for row in rows:
        if row["trial"] == "batch" and is_meant(row):
            says = row["found"].removeprefix("returned ")
            named = f"{row['parameter']}: {says}" if row["parameter"] and row["parameter"] not in says else says
            found.setdefault((row["tool"], _text(named)), []).append(f"`{row['model']}`")
    lines = [f"| set-up | {heading} | on |", "|---|---|---|"]
    lines += [f"| `{tool}` | {says} | {', '.join(names)} |" for (tool, says), names in found.items()]
    return "\n".join(lines) + "\n"


def empty(rows):
    """A row for each set-up: what came of an empty batch of the models whose batch was right, by their number."""
    lines = ["| set-up | right | raises | wrong |", "|---|--:|--:|--:|"]
    for tool in dict.fromkeys(row["tool"] for row in rows):
        own = [row for row in rows if row["tool"] == tool]
        right = {row["model"] for row in own if (row["trial"], row["outcome"]) == ("batch", "ok")}
        outcomes = [row["outcome"] for row in own if row["trial"] == "empty" and row["model"] in right]
        lines.append(f"| `{tool}` | {' | '.join(str(outcomes.count(one)) for one in ('ok', 'raised', 'wrong'))} |")
    return "\n".join(lines) + "\n"


def peculiarities(rows):
    """A row for each model: what it does."""
    return _says([row for row in rows if not _is_of_jax(row)], "model")


def functions_do(rows):
    """The same of each function of JAX."""
    return _says([row for row in rows if _is_of_jax(row)], "function")


def _says(rows, what):
    found = {row["model"]: row["says"] for row in rows}
    lines = [f"| {what} | what it does |", "|---|---|", *(f"| `{name}` | {says} |" for name, says in found.items())]
    return "\n".join(lines) + "\n"


def _text(says):
    return says.replace("|", "\\|").replace("<", "&lt;")[:160]


TABLES = {
    "versions": versions,
    "models": models,
    "functions": functions,
    "wrong": wrong,
    "forms": forms,
    "raised": raised,
    "empty": empty,
    "peculiarities": peculiarities,
    "functions_do": functions_do,
}
