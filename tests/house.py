"""Print what a newcomer meets in this package, in numbers: rooms, layers, functions, names, docstrings, circles.

`python tests/house.py [--list] [ROOT ...]` prints one column per checkout (default: this one),
and with --list, first, the names behind the numbers of the last one.
"""

import ast
import json
import statistics
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

PACKAGE = "gradkernels"
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
DEFINITION = FUNCTION | ast.ClassDef
# Members of named tuples, of torch's and of opacus' modules, of tensors.
OF_LIBRARIES = {"_replace", "_parameters", "_buffers", "_modules", "_version", "_norm_sample"}
# First words that can be no verb, which ruff's D401 knows in part only.
NO_VERBS = """
    a all an and another any as at below between both by each either every everything for four from half how if in its
    itself likewise neither no none nothing of on one or some that the their theirs them these they this those three to
    two what when where wherever whether which who whose why with within without
    bytes columns entries gradient gradients names norms rows seconds
"""


def public(name: str) -> bool:
    return not name.startswith("_")


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def lines(function: FUNCTION) -> int:
    """Count from `def` to the last line, docstring included, decorators not."""
    return function.end_lineno - function.lineno + 1


def parameters(function: FUNCTION) -> list[str]:
    """Return the names a caller may pass: neither self nor cls."""
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    names += [argument.arg for argument in (arguments.vararg, arguments.kwarg) if argument]
    return names[names[:1] in (["self"], ["cls"]) :]


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a scope, those below `if` and `try` too."""
    for statement in body:
        yield statement
        for inner in ("body", "orelse", "finalbody") if isinstance(statement, ast.If | ast.Try | ast.With) else ():
            yield from statements(getattr(statement, inner, []))


def defined(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the names that a scope defines (imported ones are not) with the statement that does."""
    for statement in statements(body):
        if isinstance(statement, DEFINITION):
            yield statement.name, statement
        elif isinstance(statement, ast.TypeAlias if sys.version_info >= (3, 12) else ()):
            yield statement.name.id, statement
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                yield from ((name.id, statement) for name in ast.walk(target) if isinstance(name, ast.Name))


def methods(body: list[ast.stmt]) -> Iterator[FUNCTION]:
    """Yield the public functions of a scope and of its public classes."""
    for name, statement in defined(body):
        if not public(name):
            continue
        if isinstance(statement, FUNCTION):
            yield statement
        elif isinstance(statement, ast.ClassDef):
            yield from methods(statement.body)


def stub(function: FUNCTION) -> bool:
    """Say whether this is an overload or a property's setter, which another definition documents."""
    marks = [ast.unparse(mark) for mark in function.decorator_list]
    return any(mark.endswith(("overload", ".setter", ".deleter")) for mark in marks)


class House:
    """Every module of a checkout, parsed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = {self.module(path): path for path in sorted((root / PACKAGE).rglob("*.py"))}

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        return {name: ast.parse(path.read_text()) for name, path in self.files.items()}

    def module(self, path: Path) -> str:
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def folders(self) -> Counter[str]:
        """Modules in each folder, without `__init__`."""
        inside = (path for path in self.files.values() if path.stem != "__init__")
        return Counter(path.parent.relative_to(self.root).as_posix() for path in inside)

    @cached_property
    def modules(self) -> Counter[str]:
        """Lines of each module."""
        return Counter({name: path.read_text().count("\n") for name, path in self.files.items()})

    @cached_property
    def functions(self) -> Counter[str]:
        """Lines of each function, nested ones and methods too."""
        found = Counter()
        for name, tree in self.trees.items():
            inside = (node for node in ast.walk(tree) if isinstance(node, FUNCTION))
            found.update({f"{name}:{node.lineno} {node.name}": lines(node) for node in inside})
        return found

    @cached_property
    def layers(self) -> int:
        """Layers of the library in the contract of import-linter."""
        tools = tomllib.loads((self.root / "pyproject.toml").read_text())["tool"]
        contracts = tools.get("importlinter", {}).get("contracts", [])
        return max((len(contract["layers"]) for contract in contracts if "layers" in contract), default=0)

    @cached_property
    def names(self) -> dict[str, set[str]]:
        """Modules that define each public name at their top; kernels have one name for each role and stay out."""
        found = defaultdict(set)
        for module, tree in self.trees.items():
            if not module.startswith(f"{PACKAGE}.kernels."):
                for name, _ in defined(tree.body):
                    if public(name) and not name.startswith("__"):
                        found[name].add(module)
        return found

    @cached_property
    def classes(self) -> dict[str, set[str]]:
        """Modules that define each public class."""
        found = defaultdict(set)
        for module, tree in self.trees.items():
            for name, statement in defined(tree.body):
                if public(name) and isinstance(statement, ast.ClassDef):
                    found[name].add(module)
        return found

    @cached_property
    def api(self) -> dict[str, FUNCTION]:
        """Public functions and methods by their place."""
        return {
            f"{module}:{function.lineno} {function.name}": function
            for module, tree in self.trees.items()
            for function in methods(tree.body)
            if not stub(function)
        }

    @property
    def undocumented(self) -> list[str]:
        return [place for place, function in self.api.items() if not ast.get_docstring(function)]

    @cached_property
    def broad(self) -> dict[str, FUNCTION]:
        """Public functions of three or more parameters; an option of a command has its help where it is declared."""
        return {
            place: function
            for place, function in self.api.items()
            if len(parameters(function)) >= 3 and "options." not in ast.unparse(function.args)
        }

    @property
    def unexplained(self) -> list[str]:
        return [place for place, function in self.broad.items() if "Args:" not in (ast.get_docstring(function) or "")]

    @cached_property
    def riddles(self) -> list[str]:
        """Docstrings of functions whose first line is not a verb in the imperative (ruff D401)."""
        command = [Path(sys.executable).with_name("ruff"), "check", "--select", "D401", "--ignore-noqa", "--no-cache"]
        done = subprocess.run(
            [*command, "--isolated", "--output-format", "json", PACKAGE], cwd=self.root, capture_output=True, text=True
        )
        found = ((self.module(Path(each["filename"])), each["location"]["row"]) for each in json.loads(done.stdout))
        return [f"{name}:{row}" for name, row in found]

    @cached_property
    def fragments(self) -> list[str]:
        """Docstrings of functions, properties aside, that begin with no word at all or with one that is no verb."""
        found = []
        for name, tree in self.trees.items():
            for node in ast.walk(tree):
                text = ast.get_docstring(node) if isinstance(node, FUNCTION) else None
                if text and not any("property" in ast.unparse(mark) for mark in node.decorator_list):
                    word = text.split()[0].strip(".,:;")
                    if not word.isalpha() or word.lower() in NO_VERBS.split():
                        found.append(f"{name}:{node.lineno} {text.splitlines()[0]}")
        return found

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Modules that each module imports anywhere in it, below TYPE_CHECKING and in functions too."""
        return {name: {found for _, found in self._imported(name)} - {name} for name in self.trees}

    def _imported(self, module: str) -> Iterator[tuple[str, str]]:
        """Yield the names that a module binds by imports with the module of the house behind each."""
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.Import):
                for each in node.names:
                    if each.name in self.files:
                        yield each.asname or each.name, each.name
            elif isinstance(node, ast.ImportFrom):
                source = self._source(module, node)
                for each in node.names:
                    inner = f"{source}.{each.name}"
                    if inner in self.files or source in self.files:
                        yield each.asname or each.name, inner if inner in self.files else source

    def _source(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.files[module].parent.relative_to(self.root).parts
        parent = package[: len(package) - node.level + 1]
        return ".".join((*parent, node.module) if node.module else parent)

    @cached_property
    def circles(self) -> list[list[str]]:
        """Groups of modules that import each other, directly or not."""
        reached = {name: self._reached(name) for name in self.imports}
        groups = {frozenset(other for other in reached[name] if name in reached[other]) for name in reached}
        return sorted(sorted(group) for group in groups if group)

    def _reached(self, start: str) -> set[str]:
        found, front = set(), [start]
        while front:
            fresh = self.imports[front.pop()] - found
            found |= fresh
            front += fresh
        return found

    @cached_property
    def trespasses(self) -> list[str]:
        """Places that mention a private name of another module, its own or a member of its classes."""
        members = {module: set(self._members(tree)) for module, tree in self.trees.items()}
        everywhere = set().union(*members.values()) - OF_LIBRARIES
        found = []
        for module, tree in self.trees.items():
            bound = dict(self._imported(module))
            own = {name for name, _ in defined(tree.body)} | members[module]
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom):
                    taken = [each.name for each in node.names if (each.asname or each.name) in bound]
                    found += [f"{module}:{node.lineno} {name}" for name in taken if private(name)]
                elif isinstance(node, ast.Attribute) and private(node.attr):
                    holder = ast.unparse(node.value)
                    if holder in bound or (node.attr in everywhere - own and holder not in ("self", "cls")):
                        found.append(f"{module}:{node.lineno} .{node.attr}")
        return found

    @staticmethod
    def _members(tree: ast.Module) -> Iterator[str]:
        """Yield the private names of a module's classes and what they set on self."""
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield from (name for name, _ in defined(node.body) if private(name))
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and private(node.attr):
                yield node.attr


def doubles(names: dict[str, set[str]]) -> dict[str, set[str]]:
    return {name: modules for name, modules in sorted(names.items()) if len(modules) > 1}


def share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.0%})" if whole else "none"


def largest(counts: Counter[str], skip: tuple[str, ...] = ()) -> str:
    name, count = next(pair for pair in counts.most_common() if pair[0] not in skip)
    return f"{count} {name.removeprefix(PACKAGE).lstrip('./')}"


def numbers(house: House) -> dict[str, object]:
    """Return each number of a checkout by what it is, in the order of printing."""
    sizes = list(house.functions.values())
    documented = len(house.api) - len(house.undocumented)
    explained = len(house.broad) - len(house.unexplained)
    return {
        "modules": len(house.files),
        "lines": sum(house.modules.values()),
        "largest folder (but kernels/)": largest(house.folders, (PACKAGE, f"{PACKAGE}/kernels")),
        "loose modules at the top": house.folders[PACKAGE],
        "layers": house.layers,
        "longest module": largest(house.modules),
        "modules over 250 lines": sum(size > 250 for size in house.modules.values()),
        "functions": len(sizes),
        "median lines of a function": statistics.median(sizes),
        "functions under 16 lines": f"{sum(size < 16 for size in sizes) / len(sizes):.0%}",
        "longest function": largest(house.functions),
        "functions over 40 lines": sum(size > 40 for size in sizes),
        "public names defined twice": len(doubles(house.names)),
        "public classes defined twice": len(doubles(house.classes)),
        "public functions with docstring": share(documented, len(house.api)),
        "Args where >= 3 parameters": share(explained, len(house.broad)),
        "docstrings not imperative (D401)": len(house.riddles),
        "docstrings that begin with no verb": len(house.fragments),
        "circles of imports": len(house.circles),
        "private names of another module": len(house.trespasses),
    }


def behind(house: House) -> Iterator[tuple[str, list[str]]]:
    """Yield a title and what stands behind a number."""
    yield "folders", [f"{count:3} {name}" for name, count in house.folders.most_common()]
    yield "modules over 250 lines", [f"{count} {name}" for name, count in house.modules.most_common() if count > 250]
    yield "functions over 40 lines", [f"{count} {name}" for name, count in house.functions.most_common() if count > 40]
    yield (
        "public classes defined twice",
        [f"{name}: {', '.join(sorted(at))}" for name, at in doubles(house.classes).items()],
    )
    yield (
        "public names defined twice",
        [f"{name}: {', '.join(sorted(at))}" for name, at in doubles(house.names).items()],
    )
    yield "no docstring", house.undocumented
    yield "no Args", house.unexplained
    yield "not imperative", house.riddles
    yield "no verb", house.fragments
    yield "circles", [" <-> ".join(circle) for circle in house.circles]
    yield "private names of another module", house.trespasses


def main(arguments: list[str]) -> None:
    roots = [Path(each).resolve() for each in arguments if each != "--list"] or [Path(__file__).resolve().parent.parent]
    houses = [House(root) for root in roots]
    if "--list" in arguments:
        for title, found in behind(houses[-1]):
            print(f"{title} ({len(found)})", *(f"  {each}" for each in found), sep="\n")
    columns = [numbers(house) for house in houses]
    for title in columns[0]:
        print(f"{title:36}", *(f"{column[title]!s:42}" for column in columns), sep="")


if __name__ == "__main__":
    main(sys.argv[1:])
