"""What the built site takes from the code, put in where a page has a comment for it.

`<!-- reference: norms moments -->` becomes the reference of these names of `gradkernels`, from their docstrings, and
`<!-- reference: * -->` that of all which the page does not name;
`<!-- commands -->` becomes every command of the command line with its options. Navigation comes from `index.md`.
"""

import posixpath
import re

from typer.main import get_command

NAMES = re.compile(r"^<!-- reference: (.+?) -->$", re.MULTILINE)
COMMANDS = "<!-- commands -->"
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:\s]+)\.(?:md|ipynb)(?:#[^)]*)?\)")


def fill_in(app, name, source):
    """Replace the comments of a page by what they stand for (an event of Sphinx)."""
    if name == app.config.root_doc:
        source[0] += navigation(source[0], name, app.env.found_docs)
    source[0] = referenced(source[0])
    source[0] = source[0].replace(COMMANDS, commands() if COMMANDS in source[0] else "")


def navigation(text, name, pages):
    """Return a table of contents for each heading of the map, of the pages below it, and one of those on no list."""
    parts = HEADING.split(text)
    groups = {title: linked(body, name) for title, body in zip(parts[1::2], parts[2::2], strict=True)}
    others = sorted(pages - {name}.union(*groups.values()))
    return "".join(contents(title, found) for title, found in [*groups.items(), ("More", others)] if found)


def linked(text, name):
    """Return the pages that a text links to, in order, each once."""
    folder = posixpath.dirname(name)
    return list(dict.fromkeys(posixpath.normpath(posixpath.join(folder, link)) for link in LINK.findall(text)))


def contents(title, pages):
    """Return the directive for a group of pages, which shows in the navigation alone."""
    listed = "\n".join(f"/{page}" for page in pages)
    return f"\n\n:::{{toctree}}\n:caption: {title}\n:hidden:\n\n{listed}\n:::\n"


def referenced(text):
    """Return a page with the reference of public names where it has a comment for them."""
    import gradkernels

    listed = " ".join(NAMES.findall(text)).split()
    others = [name for name in gradkernels.__all__ if name not in listed]
    return NAMES.sub(lambda found: reference(others if found[1] == "*" else found[1].split()), text)


def reference(names):
    """Return the directives that document public names, classes with their members."""
    import gradkernels

    found = [(name, isinstance(getattr(gradkernels, name), type)) for name in names]
    return "\n".join(map(_documented, found))


def _documented(found):
    name, is_class = found
    kind, options = ("class", "   :members:\n   :show-inheritance:\n") if is_class else ("function", "")
    return f"```{{eval-rst}}\n.. auto{kind}:: gradkernels.{name}\n{options}```\n"


def commands():
    """Return a section for each command: what it does, and a table of its options."""
    from gradkernels.bench.cli.app import app

    return "\n\n".join(_command(name, one) for name, one in get_command(app).commands.items())


def _command(name, command):
    rows = [f"| {_names(one)} | {_plain(one.help)} | {_default(one)} |" for one in command.params if one.name != "help"]
    table = ["| | | default |", "|---|---|---|", *rows]
    whole = getattr(command, "whole", command)  # one that is loaded when it is called says only in a line what it does
    return f"## gradkernels {name}\n\n{_plain(whole.help, paragraphs=True)}\n\n" + "\n".join(table)


def _names(parameter):
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    return ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])


def _default(parameter):
    value = parameter.default
    if value is None or value is False or callable(value) or parameter.required:
        return "required" if parameter.required else ""
    return f"`{getattr(value, 'value', value)}`"


def _plain(text, paragraphs=False):
    """Return help as Markdown: what would be markup or end a cell is escaped, lines are joined."""
    parts = re.split(r"\n\s*\n", text or "")
    joined = [re.sub(r"([\\|<>*_\[\]])", r"\\\1", " ".join(part.split())) for part in parts]
    return ("\n\n" if paragraphs else " ").join(joined)


def as_restructured_text(app, what, name, obj, options, lines):
    """Turn a docstring's code between single backticks, and what else would be markup, into what Sphinx reads."""
    lines[:] = [_escaped(line) for line in lines]


def _escaped(line):
    parts = re.split(r"(`[^`]+`)", line)
    return "".join(f"`{part}`" if index % 2 else _without_markup(part) for index, part in enumerate(parts))


def _without_markup(text):
    return re.sub(r"(\|)|(?<=\w)(_)(?!\w)|(?<!\*)(\*)(?=\w)", lambda found: "\\" + found[0], text)
