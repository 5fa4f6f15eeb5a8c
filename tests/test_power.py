"""What `ab` finds of slowdowns that are there, and what it says where it cannot tell: with simulated noise, seeded."""

import pytest
from power import power

from gradkernels.bench.compare.thresholds import Thresholds


@pytest.mark.parametrize(
    ("noise", "effect", "slower", "same", "passes"),
    [
        (0.008, 0.0, (0, 1), (98, 100), (1500, 2500)),
        (0.008, 0.02, (98, 100), (0, 0), (1200, 2000)),
        (0.008, 0.03, (99, 100), (0, 0), (800, 1300)),
        (0.015, 0.0, (0, 1), (35, 60), (2900, 3200)),
        (0.015, 0.02, (60, 85), (0, 1), (2300, 3100)),
        (0.015, 0.03, (97, 100), (0, 0), (1200, 1900)),
        (0.03, 0.0, (0, 1), (0, 2), (3100, 3200)),
        (0.03, 0.03, (60, 85), (0, 0), (2300, 3100)),
        (0.03, 0.05, (97, 100), (0, 0), (1300, 2100)),
    ],
)
def test_a_real_slowdown_is_found_or_undecided_and_never_the_same(noise, effect, slower, same, passes):
    found = power(noise, effect, repeats=100)
    assert slower[0] <= found["slower"] <= slower[1]
    assert same[0] <= found["same"] <= same[1]
    assert found["faster"] <= 1
    assert passes[0] <= found["passes"] <= passes[1]


def test_who_wants_to_know_less_is_told_sooner():
    wide = power(0.015, 0.0, Thresholds(delta=0.05), repeats=100)
    assert wide["same"] == 100
    assert wide["passes"] <= 1000


@pytest.mark.parametrize(("limit", "passes"), [(None, (1200, 1900)), (0.03, (2900, 3200)), (0.2, (1200, 1900))])
def test_a_limit_beside_the_truth_is_looked_for_to_the_end(limit, passes):
    found = power(0.015, 0.03, Thresholds(fail_slower=limit), repeats=100)
    assert passes[0] <= found["passes"] <= passes[1]
    assert found["same"] == 0
