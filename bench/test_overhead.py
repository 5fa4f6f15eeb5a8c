"""What gradkernels itself costs: binding, dispatch and import, as differences and ratios within one run.

`pytest bench/test_overhead.py -s` prints the figures beside their limits.
"""

from __future__ import annotations

import subprocess
import sys
from statistics import median

import numpy as np

import gradkernels as gk
from gradkernels.bench.timing.slices import TimedCall, time_interleaved, warm_up

PROBLEM = gk.LinearRegression()
INPUTS = PROBLEM.draw(10, seed=0)
SECONDS = 3.0
IMPORTS = 21


def extra_seconds(**calls):
    """Median over blocks of each call's seconds beyond the first one's, timed in turns."""
    timed = [TimedCall(name, call) for name, call in calls.items()]
    for one in timed:
        warm_up(one, 0.2)
    time_interleaved(timed, SECONDS, lambda: None, np.random.default_rng(0))
    base = timed[0].slices
    return {e.name: median(b - a for a, b in zip(base, e.slices, strict=False)) for e in timed[1:]}


def test_a_bound_kernel_costs_at_most_200_ns_and_dispatch_at_most_3_us():
    theta, x, y = INPUTS
    bound = gk.fastest(PROBLEM, "gradient", like=INPUTS)
    bare = bound.kernel.build(PROBLEM)
    extra = extra_seconds(
        bare=lambda: bare(theta, x, y),
        bound=lambda: bound(theta, x, y),
        dispatched=lambda: gk.gradient(PROBLEM, theta, x, y),
    )
    print(f"\n{bound.kernel.key} at n = 10: bound +{extra['bound'] * 1e9:.0f} ns (limit 200), "
          f"gk.gradient +{extra['dispatched'] * 1e9:.0f} ns (limit 3000)")  # fmt: skip
    assert extra["bound"] < 0.2e-6
    assert extra["dispatched"] < 3e-6


def test_importing_gradkernels_takes_at_most_1_3_times_numpys_import():
    code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    names = ("numpy", "gradkernels")
    times = {name: [] for name in names}
    for turn in range(IMPORTS):
        for name in names if turn % 2 else names[::-1]:
            done = subprocess.run([sys.executable, "-c", code.format(name)], capture_output=True, text=True, check=True)
            times[name].append(float(done.stdout))
    ratio = median(times["gradkernels"]) / median(times["numpy"])
    print(f"\nimport gradkernels {median(times['gradkernels']) * 1e3:.1f} ms, "
          f"numpy {median(times['numpy']) * 1e3:.1f} ms, ratio {ratio:.2f} (limit 1.3)")  # fmt: skip
    assert ratio < 1.3


def test_the_key_of_a_models_state_costs_at_most_a_microsecond_a_module():
    import torch
    from torch import nn

    from gradkernels.problems.module.mode_key.tracker import ModeTracker

    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
    modules = len(list(model.modules()))
    modes = ModeTracker(model)
    modes.key()
    extra = extra_seconds(nothing=lambda: None, walk=lambda: list(model.modules()), key=modes.key)
    each = {name: seconds / modules * 1e9 for name, seconds in extra.items()}
    print(f"\nkey of {modules} modules, torch {torch.__version__}: {each['key']:.0f} ns a module (limit 1000), "
          f"a walk over them {each['walk']:.0f} ns")  # fmt: skip
    assert each["key"] < 1000
