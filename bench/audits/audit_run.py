"""The audits themselves: each installed library on each model."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

from audit_models import MODELS

import gradkernels as gk
from gradkernels import zoo
from gradkernels.tool_audit.tools.set_ups import SET_UPS
from gradkernels.tree import take

SAMPLES = 8
OWN = "bench/audits/audit_models.py"


def audits(tool=None, model=None):
    """Yield a row for each trial of these tools on these models; of all where none is named."""
    for name, (where, factory) in models().items():
        if model in (None, name):
            for set_up in SET_UPS.values():
                if tool in (None, set_up.name) and find_spec(set_up.imported):
                    yield from rows(name, where, factory, set_up)


def models():
    found = {name: (f"gradkernels.zoo:{name}", factory) for name, factory in zoo.ZOO.items()}
    return found | {name: (f"{OWN}:{name}", factory) for name, factory in MODELS.items()}


def rows(name, where, factory, set_up):
    """Yield a row for each trial."""
    problem = factory()
    report = gk.audit_tool(set_up.name, problem, take(problem.example, slice(SAMPLES)))
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
