"""One of several processes that train with Opacus' door: `python tests/doors/opacus_ranks.py RANK SIZE FOLDER`."""

import os
import sys
import warnings
from datetime import timedelta
from pathlib import Path

import opacus
import torch
import torch.distributed as dist
from opacus.distributed import DifferentiallyPrivateDistributedDataParallel
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from gradkernels.adapters.opacus import PrivacyEngine

N, STEPS = 24, 5
TIMEOUT = timedelta(seconds=60)
KINDS = {
    "hooks": {"grad_sample_mode": "hooks", "max_grad_norm": 0.4},
    "ghost": {"grad_sample_mode": "ghost", "max_grad_norm": 0.4},
    "per layer": {"clipping": "per_layer", "max_grad_norm": [0.1, 0.2, 0.3, 0.4]},
}
WRAPPERS = {"private": DifferentiallyPrivateDistributedDataParallel, "torch's": DistributedDataParallel}


def model(rank=0):
    torch.manual_seed(7 + rank)  # rank 0's parameters are everybody's
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def samples():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, 5, generator=generator).double(), torch.arange(N) % 3


def trained(engine, own, wrapped, kind, rank=0, size=1):
    """Return the parameters after some steps on every `size`-th sample, rank 0 of which draws noise."""
    (x, y), noise = samples(), torch.Generator().manual_seed(2)
    loader = DataLoader(TensorDataset(x, y), batch_size=N)
    made = engine.make_private(
        module=wrapped, optimizer=torch.optim.SGD(own.parameters(), 0.2), criterion=nn.CrossEntropyLoss(),
        data_loader=loader, noise_multiplier=0.7, noise_generator=noise, poisson_sampling=False, **KINDS[kind],
    )  # fmt: skip
    private, optimizer = made[:2]
    criterion = made[2] if kind == "ghost" else nn.CrossEntropyLoss()
    for _ in range(STEPS):
        optimizer.zero_grad()
        criterion(private(x[rank::size]), y[rank::size]).backward()
        optimizer.step()
    return [one.detach().clone() for one in own.parameters()]


def runs(rank, size):
    """Yield what each kind of training gives with each wrapper, through the door and by Opacus itself."""
    for engine in (PrivacyEngine, opacus.PrivacyEngine):
        for name, wrap in WRAPPERS.items():
            for kind in KINDS:
                own = model(rank)
                try:
                    found = trained(engine(), own, wrap(own), kind, rank, size)
                except Exception as error:
                    found = f"{type(error).__name__}: {error}"
                yield (engine.__module__.partition(".")[0], name, kind), found


if __name__ == "__main__":
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    warnings.filterwarnings("ignore")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size, timeout=TIMEOUT)
    try:
        torch.save(dict(runs(rank, size)), folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
