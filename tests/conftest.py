"""Switches of the test process, set before any array library loads: float64 for JAX, one thread for every pool."""

import os

os.environ["JAX_ENABLE_X64"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["PJRT_NPROC"] = "1"
for pool in ("OMP", "OPENBLAS", "MKL", "VECLIB"):
    os.environ[f"{pool}_NUM_THREADS"] = "1"

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("short", deadline=None, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=5000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the whole conformance matrix and more fuzzing (minutes)")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("long" if config.getoption("--long") else "short")


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    return request.config.getoption("--long")


@pytest.fixture(autouse=True, scope="session")
def no_wisdom(tmp_path_factory: pytest.TempPathFactory):
    """What a person saved as this machine's choice decides no test, and no test changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADKERNELS_WISDOM", str(tmp_path_factory.mktemp("wisdom") / "wisdom.json"))
        yield
