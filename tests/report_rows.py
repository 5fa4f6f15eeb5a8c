"""Two measurements of a few kernels with literal times, the second of a later commit, for tests of the report."""

from measured import STEADY, changed, passes, refused, scaled

EVIL = "<script>alert(1)</script>"
EVIL_REASON = "no </script><img src=x onerror=alert(2)> & no 'quotes' \"here\""
LATER = {"run": "run-b", "started": "2026-03-02T12:00:00+00:00", "commit": "fedcba987654"}

# Seconds of each kernel at n = 10, 100 and 1000: the loop is overtaken by broadcasting between 10 and 100.
TIMES = {
    "numpy.loop.norms": (1e-5, 1e-4, 1e-3),
    "numpy.broadcast+.norms": (2e-5, 4e-5, 2e-4),
    "torch.vmap+.norms": (3e-5, 8e-5, 3e-4),
    EVIL: (5e-5, 9e-5, 9e-4),
}
SIZES = (10, 100, 1000)
FACTS = {"limit_seconds": 1e-6, "peak_bytes": 1_000_000, "least_bytes": 4_000, "error": 1e-13}


def first_file():
    """Eight passes at three sizes, a control, and a kernel that cannot do it."""
    rows = []
    for at, n in enumerate(SIZES):
        for kernel, times in TIMES.items():
            first = {"seconds_first": 0.5 if "broadcast" in kernel else 1e-3}
            rows += passes(scaled(STEADY, times[at]), kernel=kernel, n=n, **FACTS, **first)
        rows += passes(scaled(STEADY, 2e-6), kernel="control", n=n) + passes(scaled(STEADY, 2e-6), kernel="canary", n=n)
        rows += [changed(row, reason=EVIL_REASON) for row in refused("unsupported", kernel="jax.vmap+.norms", n=n)]
        rows += passes(scaled(STEADY, 1e-6), kernel="numpy.loop+.gradient", quantity="gradient", n=n, dtype="float32")
    return rows


def second_file():
    """The same at a later commit, where broadcasting takes 10% longer at n = 100."""

    def later(row):
        slower = row.kernel == "numpy.broadcast+.norms" and row.case.n == 100
        seconds = row.measurement.seconds_median
        return changed(row, **LATER, seconds_median=1.1 * seconds if slower else seconds)

    return [later(row) for row in first_file()]
