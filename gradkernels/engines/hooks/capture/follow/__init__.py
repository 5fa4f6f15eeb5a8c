"""Where the samples are in the output of a torch function, from where they are in its arguments.

Nothing here looks at what a tensor holds but the indices by which entries are picked: a rule says what a function does
to axes, for the functions that are listed; samples are never recognised by their values. What has no rule, or takes
samples together, gives a tensor through which no gradient may come back (`gradkernels.engines.hooks.capture.tape`).
"""

from __future__ import annotations

from typing import Any

from torch.nn import functional

from gradkernels.engines.hooks.capture.follow import dimwise, indexing, shapes, structured
from gradkernels.engines.hooks.capture.follow.pointwise import NAMES, pointwise
from gradkernels.engines.hooks.capture.follow.tracked_call import Rule

RULES: dict[str, Rule] = {
    **dict.fromkeys(NAMES, pointwise),
    **shapes.RULES,
    **dimwise.RULES,
    **structured.RULES,
    "__getitem__": indexing.getitem,
    "__setitem__": indexing.setitem,
}
"""By the function's name, without the underscore of what works in place."""


def rule_of(function: Any) -> Rule | None:
    """The rule of a torch function; None if there is none."""
    if function is functional.unfold:  # into patches; that of a tensor is along one axis
        return RULES["im2col"]
    name = getattr(function, "__name__", "")
    if name == "__get__":  # of an attribute, such as x.T
        name = getattr(function.__self__, "__name__", "")
    if name in RULES or name.startswith("__"):
        return RULES.get(name)
    return RULES.get(name.removesuffix("_"))
