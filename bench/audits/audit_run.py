"""The audits themselves: each installed library on each model."""

from __future__ import annotations

import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from audit_functions import FUNCTIONS
from audit_models import MODELS

import gradkernels as gk
from gradkernels import zoo
from gradkernels.tool_audit.tools.set_ups import SET_UPS
from gradkernels.tree import take

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from real.stand_in import with_torchvision

TORCHVISION = with_torchvision()  # which laplace-torch imports
SAMPLES = 8
OWN, OF_JAX = "bench/audits/audit_models.py", "bench/audits/audit_functions.py"


def audits(tool=None, model=None):
    """Yield a row for each trial of these tools on these models; of all where none is named."""
    for name, (where, factory) in models().items():
        if model in (None, name):
            for set_up in SET_UPS.values():
                fits = set_up.of_functions == (name in FUNCTIONS)
                if fits and tool in (None, set_up.name) and find_spec(set_up.imported):
                    yield from rows(name, where, factory, set_up)


def place(model, tool):
    """Return where an audit stands in the file: by model, then by set-up."""
    return [*models()].index(model), [*SET_UPS].index(tool)


def models():
    found = {name: (f"gradkernels.zoo:{name}", factory) for name, factory in zoo.ZOO.items()}
    found |= {name: (f"{OWN}:{name}", factory) for name, factory in MODELS.items()}
    return found | {name: (f"{OF_JAX}:{name}", factory) for name, factory in FUNCTIONS.items()}


def rows(name, where, factory, set_up):
    """Yield a row for each trial."""
    problem = factory()
    data = take(problem.example, slice(SAMPLES))
    report = gk.audit_tool(set_up.name, problem, (None, *data) if set_up.of_functions else data)
    print(f"{name:16} {set_up.name:17} {report.verdict[:100]}", flush=True)
    says = factory.__doc__.partition("\n")[0]
    fixed = {"model": name, "says": says, "problem": where, "tool": set_up.name, "package": set_up.package,
             "version": version(set_up.package), "torch": version("torch"), "n": report.n}  # fmt: skip
    for trial in report.trials:
        yield fixed | {
            "trial": trial.name, "asks": trial.asks, "outcome": trial.outcome, "parameter": trial.parameter,
            "sample": trial.sample, "found": trial.says, "diagnosis": trial.diagnosis,
            "error": number(trial.error), "tolerance": number(trial.tolerance),
        }  # fmt: skip


def number(value):
    return None if value is None else f"{value:.2g}"
