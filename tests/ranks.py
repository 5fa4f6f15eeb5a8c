"""One of several processes that go through samples together: `python tests/ranks.py RANK SIZE FOLDER`."""

import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import gradkernels as gk

N = 53
TIMEOUT = timedelta(seconds=20)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def samples():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, 3, generator=generator).double(), torch.arange(N) % 2


def regression():
    problem = gk.LogisticRegression()
    return problem, *problem.draw(N, seed=0, features=3)


def said(call):
    """What the error of a call says."""
    try:
        call()
    except (RuntimeError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def results(rank, size, folder):
    x, y = samples()
    loader = DataLoader(TensorDataset(x, y), batch_size=4 + rank, sampler=range(rank, N, size))
    over, problem = gk.over(loader), gk.ModuleProblem(model(), nn.CrossEntropyLoss())
    mine = torch.arange(rank, N, size)
    yield "gradient", over.gradient(problem)
    yield "moments", over.moments(problem)
    yield "clipped_sum", over.clipped_sum(problem, max_norm=0.4, norms_out=True)
    yield "weighted_sum", over.weighted_sum(problem, weights=mine.double())
    yield "group_sums", over.group_sums(problem, groups=mine % 3, count=3)
    yield "outer", over.outer(problem, groups=mine // 5)
    yield "norms", over.norms(problem)
    yield "project", over.project(problem, size=6)
    yield "gram", over.gram(problem)
    yield "gram with others", over.gram(problem, other=(x[:5], y[:5]))
    yield "file", torch.from_numpy(over.project(problem, size=6, out=f"{folder}/rows-{{rank}}.npy").copy())
    yield "alone", gk.over(loader, distributed=False).gradient(problem)
    p, theta, features, targets = regression()
    yield "regression", gk.over([(features[rank::size], targets[rank::size])]).moments(p, theta)
    wrapped = gk.ModuleProblem(DistributedDataParallel(model()), nn.CrossEntropyLoss())
    yield "wrapped", over.clipped_sum(wrapped, max_norm=0.4, parameters="module.2.*")


def refusals(rank, size):
    x, y = samples()
    problem, data = gk.ModuleProblem(model(), nn.CrossEntropyLoss()), TensorDataset(x, y)
    over = gk.over([(x[rank::size], y[rank::size])])
    other = gk.ModuleProblem(model(), nn.CrossEntropyLoss())
    with torch.no_grad():
        other.model[0].weight += rank
    yield "parameters", said(lambda: over.gradient(other))
    yield "quantities", said(lambda: (over.gradient, over.clipped_sum)[rank % 2](problem))
    yield "file", said(lambda: over.norms(problem, out="rows.npy"))
    padded = DataLoader(data, sampler=DistributedSampler(data, shuffle=False))
    yield "padded", said(lambda: gk.over(padded).gradient(problem))
    yield "sharded", said(lambda: over.gradient(sharded(size)))


def sharded(size):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    module = model()
    fully_shard(module, mesh=init_device_mesh("cpu", (size,)))
    return gk.ModuleProblem(module, nn.CrossEntropyLoss())


def main(rank, size, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/group", TIMEOUT, size, rank)
    found = {"results": dict(results(rank, size, folder)), "refusals": dict(refusals(rank, size))}
    torch.save(found, Path(folder) / f"{rank}.pt")
    if rank == size - 1:
        os._exit(0)  # dies without a word to the others
    problem = gk.ModuleProblem(model(), nn.CrossEntropyLoss())
    (Path(folder) / f"{rank}.txt").write_text(said(lambda: gk.over([samples()]).gradient(problem)))
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
