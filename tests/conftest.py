"""Switches of the test process, set before any array library loads: float64 and a cache for JAX, one thread a pool."""

import atexit
import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["PJRT_NPROC"] = "1"
# What XLA compiled for an earlier run of the same tests is loaded, as what numba compiled is.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parents[1] / ".jax_cache")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
# Where pytest-xdist runs the tests, the sessions that they start themselves are no workers: pytest-benchmark would not
# time in one.
os.environ.pop("PYTEST_XDIST_WORKER", None)
# Runs that need a machine for themselves would wait for those of other test processes.
SLOT = tempfile.mkdtemp(prefix="slot-")
atexit.register(shutil.rmtree, SLOT, ignore_errors=True)
os.environ["GRADKERNELS_SLOT"] = f"{SLOT}/slot"
for pool in ("OMP", "OPENBLAS", "MKL", "VECLIB"):
    os.environ[f"{pool}_NUM_THREADS"] = "1"

import matrices  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

# Begun first where several processes share the files, so that at the end none is left alone with one of them: pytest
# itself collects files that lie in a folder that was also given in the folder's order, whichever was named first.
# Of those that compile the same with numba or JAX only one, which the others find on disk.
LONGEST = ("test_commands.py", "test_agreement.py", "test_survive.py", "test_check.py", "test_module_run.py")

settings.register_profile("short", deadline=None, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=5000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the whole conformance matrix and more fuzzing (minutes)")


def pytest_configure(config: pytest.Config) -> None:
    matrices.WHOLE = config.getoption("--long")
    settings.load_profile("long" if matrices.WHOLE else "short")
    config.addinivalue_line("markers", "matrix(names, rows, always, ids): see matrices.py")


# How many combinations of matrices are taken, and of how many: of this process, or as its workers say.
COMBINATIONS = pytest.StashKey[list[int]]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    counts = metafunc.config.stash.setdefault(COMBINATIONS, [0, 0])
    for place, count in enumerate(matrices.parametrize(metafunc, metafunc.config.getoption("--long"))):
        counts[place] += count


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["combinations"] = session.config.stash.get(COMBINATIONS, [0, 0])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    """Take over what a worker of pytest-xdist has counted; each of them collects all tests."""
    node.config.stash[COMBINATIONS] = getattr(node, "workeroutput", {}).get("combinations", [0, 0])


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    taken, every = config.stash.get(COMBINATIONS, [0, 0])
    if taken < every:
        terminalreporter.write_line(f"matrices: {taken:,} of {every:,} combinations (tests/matrices.py); all: --long")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Look for no garbage among thousands of tests and their libraries, neither now nor later: it takes a second.

    Later more seldom than by default, which is a twentieth of the time of what computes in Python.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(10_000, 10, 10)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if placed := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"{placed[0]} is called by a place in memory; give its parameters ids=matrices.named")
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


# How many modules were loaded when what there is was last taken out of what is looked through as garbage.
LOADED = pytest.StashKey[int]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin each test with one thread in torch's pool: several that an earlier one left spin against each other.

    What came with libraries that an earlier test loaded is no garbage either: each collection takes a second for it.
    """
    torch = sys.modules.get("torch")
    if torch and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    if len(sys.modules) > item.session.stash.get(LOADED, 0) + 100:
        item.session.stash[LOADED] = len(sys.modules)
        gc.collect(1)
        gc.freeze()


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    return request.config.getoption("--long")


@pytest.fixture(autouse=True, scope="session")
def no_wisdom(tmp_path_factory: pytest.TempPathFactory):
    """What a person saved as this machine's choice decides no test, and no test changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADKERNELS_WISDOM", str(tmp_path_factory.mktemp("wisdom") / "wisdom.json"))
        yield


@pytest.fixture
def eager(monkeypatch):
    """The recorded operations are run as they are: what is recorded is the same, and compiling takes seconds.

    Yields:
        The shape of x for each recording.
    """
    from gradkernels.engines.compiled import modules
    from gradkernels.tree import leaves

    shapes = []

    def recorded(function, prepared):
        ready = {}

        def call(*arrays):
            key = tuple((leaf.shape, leaf.stride()) for leaf in leaves(arrays))
            if key not in ready:
                shapes.append(tuple(leaves(arrays[2])[0].shape))
                ready[key] = prepared(function, *arrays)
            return ready[key](*arrays)

        return call

    monkeypatch.setattr(modules, "per_shape", recorded)
    return shapes
