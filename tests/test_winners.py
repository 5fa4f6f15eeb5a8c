"""Tables of winners: what a person reads where the measurements say little."""

from measured import record

from gradkernels.bench.winner_tables import markdown
from gradkernels.bench.winners import standings


def test_bounds_that_say_nothing_are_written_short():
    times = {"numpy.broadcast+.norms": (1e-6, 1e-6), "torch.vmap+.norms": (2e-6, 9e-4)}
    rows = [
        record(kernel=kernel, pass_=number, seconds_median=seconds)
        for kernel, both in times.items()
        for number, seconds in enumerate(both, 1)
    ]
    assert ", over 100] torch.vmap+ (a tie)" in markdown(standings(rows))
