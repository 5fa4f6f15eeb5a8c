"""The columns that say where and when: of this very machine, of libraries as installed, of a checkout as git has it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError

import pytest

import gradkernels as gk
from gradkernels.bench.results import metadata
from gradkernels.coordinates import Coordinates


def test_a_run_says_what_when_and_where_it_is():
    before = datetime.now(UTC).replace(microsecond=0)
    facts, other = metadata.run_facts(), metadata.run_facts()
    assert re.fullmatch("[a-f][0-9a-f]{11}", facts["run"])
    assert facts["run"] != other["run"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", facts["started"])
    assert before <= datetime.fromisoformat(facts["started"]) <= before + timedelta(seconds=60)
    system = os.uname()
    assert facts == {
        "schema": 3,
        "run": facts["run"],
        "started": facts["started"],
        "machine": facts["machine"],
        "cpu": facts["cpu"],
        "cores": os.cpu_count(),
        "os": f"{system.sysname} {system.release}",
        "python": sys.version.split()[0],
        "versions": metadata.versions(),
        "commit": metadata.commit(),
    }
    assert facts["cpu"]
    assert facts["machine"].endswith(
        f"-{os.cpu_count()}c-{platform.system()}-{platform.machine()}".lower().replace("_", "-")
    )


def test_where_nobody_counts_the_cores_there_is_one(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert metadata.run_facts()["cores"] == 1


def test_a_case_says_what_was_computed():
    case = gk.Case(gk.LinearRegression(), "norms", 100, "float32", features=3, seed=7)
    facts = metadata.case_facts(case)
    assert facts == {
        "case": Coordinates("linear", "norms", 100, 3, "float32", "C", "cpu", 1),
        "parameters": 4,
        "seed": 7,
    }


def test_what_is_installed_is_named_by_import_name(monkeypatch):
    installed = {"gradkernels": "0.1.0", "numpy": "2.4.6", "scikit-learn": "1.8.0"}

    def version(name):
        if name in installed:
            return installed[name]
        raise PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert metadata.versions() == "gradkernels=0.1.0 numpy=2.4.6 sklearn=1.8.0"


# The commit.


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of a commit that the module lies in as it does in its own."""
    file = tmp_path / "gradkernels" / "bench" / "results" / "metadata.py"
    file.parent.mkdir(parents=True)
    file.write_text("1\n")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    monkeypatch.setattr(metadata, "__file__", str(file))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def git(folder, *arguments):
    command = ["git", "-C", folder, "-c", "user.name=me", "-c", "user.email=me@localhost", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def committed(checkout):
    git(checkout, "init", "--quiet")
    git(checkout, "add", "gradkernels")
    git(checkout, "commit", "--quiet", "--message", "one")
    return git(checkout, "rev-parse", "HEAD")


def test_the_commit_is_told_and_whether_files_of_it_were_changed(checkout, committed):
    assert metadata.commit() == committed[:12]
    (checkout / "gradkernels" / "new.py").write_text("untracked")
    assert metadata.commit() == committed[:12]
    (checkout / "gradkernels" / "bench" / "results" / "metadata.py").write_text("2\n")
    assert metadata.commit() == committed[:12] + "+"


def test_outside_a_checkout_there_is_no_commit(checkout):
    assert metadata.commit() == ""


def test_the_commit_of_another_project_around_it_is_not_told(checkout):
    git(checkout.parent, "init", "--quiet")
    git(checkout.parent, "commit", "--quiet", "--allow-empty", "--message", "another's")
    assert metadata.commit() == ""


def test_before_the_first_commit_there_is_none(checkout):
    git(checkout, "init", "--quiet")
    git(checkout, "add", "gradkernels")
    assert metadata.commit() == ""


@pytest.mark.usefixtures("committed")
def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert metadata.commit() == ""


@pytest.mark.usefixtures("committed")
def test_a_git_that_hangs_is_given_up(monkeypatch):
    def run(command, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    assert metadata.commit() == ""
