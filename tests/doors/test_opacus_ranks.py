"""`gradkernels.adapters.opacus` over several processes: the parameters are those of one process with all samples."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

pytest.importorskip("opacus")

import opacus_ranks as ranks

from gradkernels.adapters.opacus import PrivacyEngine

pytestmark = pytest.mark.filterwarnings("ignore:Secure RNG turned off", "ignore:Full backward hook is firing")


@pytest.fixture(scope="module")
def alone():
    """The parameters after training in one process, by kind."""
    return {kind: ranks.trained(PrivacyEngine(), own := ranks.model(), own, kind) for kind in ranks.KINDS}


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path_factory.mktemp('meet')}/f", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def apart(found, expected):
    return max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", ranks.KINDS)
@pytest.mark.parametrize("wrapper", ranks.WRAPPERS)
def test_a_distributed_model_is_followed(wrapper, kind, alone, one_rank):
    own = ranks.model()
    found = ranks.trained(PrivacyEngine(), own, ranks.WRAPPERS[wrapper](own), kind)
    assert apart(found, alone[kind]) < 1e-12
    assert apart(found, [one.detach() for one in ranks.model().parameters()]) > 1e-3


def test_two_processes_train_as_one(tmp_path, long, alone):
    if not long:
        pytest.skip("--long: two processes import Opacus")
    command = [sys.executable, ranks.__file__]
    running = [subprocess.Popen([*command, str(rank), "2", str(tmp_path)]) for rank in range(2)]
    assert [one.wait(120) for one in running] == [0, 0]
    for rank in range(2):
        results = torch.load(tmp_path / f"{rank}.pt")
        assert len(results) == 12
        for (library, wrapper, kind), found in results.items():
            assert not isinstance(found, str), (library, wrapper, kind, found)
            assert apart(found, alone[kind]) < 1e-12
