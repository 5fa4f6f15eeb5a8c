"""The package: what it says of itself is true, and the workflows name what is there."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pages
import typer
import yaml

import gradkernels as gk
from gradkernels.bench.cli.app import app

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
GATE = ROOT / "docs" / "how-to" / "speed-gate.yml"


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def pythons(workflow):
    return {step["with"]["python-version"] for step in steps(workflow) if "setup-python" in step.get("uses", "")}


def script_of_docs(name):
    """A module beside the pages, which is on no path."""
    spec = importlib.util.spec_from_file_location(name, next((ROOT / "docs").rglob(f"{name}.py")))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_python_is_declared_only_if_the_workflow_tests_it():
    declared = {line.rpartition(" ")[2] for line in PROJECT["project"]["classifiers"] if ":: Python :: 3." in line}
    assert declared == pythons(WORKFLOW) == {"3.11"}
    assert PROJECT["project"]["requires-python"] == ">=3.11"


def test_authors_are_those_of_the_citation():
    (author,) = PROJECT["project"]["authors"]
    assert f"- name: {author['name']}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_workflow_runs_what_is_there():
    commands = [step["run"] for step in steps(WORKFLOW) if "run" in step]
    assert commands == [".ci/run"]
    lines = re.findall(r"^make (.+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    targets = [word for line in lines for word in line.split() if not word.startswith("--")]
    assert targets == ["lint", "types", "docs", "test", "test-outside"]
    rules = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(targets) <= set(rules)


def test_the_workflow_to_copy_is_that_of_its_page_and_its_command_can_be_parsed():
    (shown,) = [block for block in pages.blocks(ROOT / "docs" / "how-to" / "ci-gate.md") if block.language == "yaml"]
    assert shown.text == GATE.read_text()
    script = "\n".join(step.get("run", "") for step in steps(yaml.safe_load(shown.text)))
    (command,) = re.findall(r"gradkernels (ab .+?) > verdict\.md", script)
    arguments = command.replace('"origin/$GITHUB_BASE_REF"', "origin/main").split()
    parsed = typer.main.get_command(app).commands["ab"].make_context("ab", arguments[1:]).params
    assert (parsed["before"], parsed["after"], parsed["fail_slower"]) == ("origin/main", ".", "5%")


def test_what_the_tests_need_is_in_the_source_distribution():
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    for name in ("tests", "docs", "results", "bench", "Makefile", ".ci", ".github", "constraints.txt"):
        assert name in included


def test_the_readme_of_the_package_has_no_link_that_leads_nowhere():
    text = (ROOT / "README.md").read_text()
    for rule in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    assert [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https://")] == []
    assert "machine and command" in text
    assert "<!--" not in text


# What the built documentation takes from the code.


def test_every_public_name_is_in_the_reference():
    from_code = script_of_docs("from_code")
    text = (ROOT / "docs" / "api.md").read_text()
    listed = " ".join(from_code.NAMES.findall(text)).split()
    public = {*gk.__all__, "open"}  # which `import *` leaves out
    assert set(listed) - {"*"} <= public
    shown = re.findall(r"^\.\. auto(?:class|function):: gradkernels\.(\w+)$", from_code.referenced(text), re.MULTILINE)
    assert sorted(shown) == sorted(public)


def test_every_command_and_option_is_in_the_reference():
    text = script_of_docs("from_code").commands()
    for name, command in typer.main.get_command(app).commands.items():
        assert f"## gradkernels {name}\n" in text
        assert all(f"`{option}`" in text for one in command.params for option in one.opts if option.startswith("--"))


def test_the_navigation_is_the_map():
    from_code = script_of_docs("from_code")
    text = "# A\n\n## B\n\n[c](c.md), [d](../d.md#e), [f](https://f.org/g.md)\n\n## H\n\n- [i](j/i.ipynb) [c](c.md)\n"
    pages_there = {"docs/index", "docs/c", "d", "docs/j/i", "docs/k"}
    found = re.findall(
        r":caption: (.+)\n:hidden:\n\n((?:/.+\n)+)", from_code.navigation(text, "docs/index", pages_there)
    )
    assert found == [("B", "/docs/c\n/d\n"), ("H", "/docs/j/i\n/docs/c\n"), ("More", "/docs/k\n")]


def test_drawings_are_as_their_script_draws_them():
    script = script_of_docs("draw")
    folder = ROOT / "docs" / "drawings"
    assert {path.stem for path in folder.glob("*.svg")} == script.DRAWINGS.keys()
    for name, drawing in script.DRAWINGS.items():
        assert (folder / f"{name}.svg").read_text() == script.svg(*drawing)
