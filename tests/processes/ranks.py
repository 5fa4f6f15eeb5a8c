"""One of several processes that go through samples together: `python tests/processes/ranks.py RANK SIZE FOLDER`."""

import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
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
    yield "tensors alone", said(lambda: over.gradient(columns(size)))


def sharded(size, **options):
    """A module of which each rank has a part of each parameter, and the module left whole after a forward pass."""
    module, mesh = model(), init_device_mesh("cpu", (size,))
    module.register_buffer("seen", torch.zeros(()))
    fully_shard(module[0], mesh=mesh, **options)
    fully_shard(module, mesh=mesh, **options)
    module(samples()[0][:2]).sum().backward()
    module.zero_grad()
    return module


def columns(size):
    """A module whose first layer has been given columns on each rank, which no gathering makes the same module."""
    parallel = parallelize_module(model(), init_device_mesh("cpu", (size,)), {"0": ColwiseParallel()})
    return gk.ModuleProblem(parallel, nn.CrossEntropyLoss())


def all_of(tree):
    """What was sharded, whole: `full_tensor` refuses what is not."""
    if isinstance(tree, dict):
        return {name: one.full_tensor() for name, one in tree.items()}
    return type(tree)(*map(all_of, tree))


def of_shards(rank, size):
    """Results of a module that `fully_shard` has sharded, before and after a step of an optimiser on such a result."""
    x, y = samples()
    over = gk.over(DataLoader(TensorDataset(x, y), batch_size=4 + rank, sampler=range(rank, N, size)))
    module = sharded(size)
    problem, mine = gk.ModuleProblem(module, nn.CrossEntropyLoss()), torch.arange(rank, N, size)
    gradient = over.gradient(problem)
    yield "gradient", all_of(gradient)
    yield "moments", all_of(over.moments(problem))
    total, norms = over.clipped_sum(problem, max_norm=0.4, norms_out=True)
    yield "clipped_sum", (all_of(total), norms)
    yield "group_sums", all_of(over.group_sums(problem, groups=mine % 3, count=3))
    yield "inner", over.inner(problem, v=gradient)
    yield "project", over.project(problem, size=6)
    yield "some", all_of(over.gradient(problem, parameters="2.*"))
    given = {name: 2 * one.detach() for name, one in module.named_parameters()}
    yield "theta", all_of(over.gradient(problem, given))
    yield "parts", {name: tuple(one.to_local().shape) for name, one in gradient.items()}
    held = problem.cache["twin"].parameters.values()
    yield "outside", said(lambda: gk.norms(problem, None, x, y))
    yield "bytes", sum(twin.nbytes for _, twin in held)
    for name, one in module.named_parameters():
        one.grad = gradient[name]
    torch.optim.SGD(module.parameters(), lr=0.5).step()
    module[1].register_forward_hook(lambda module, args, output: 2 * output)
    yield "after a step", all_of(over.gradient(problem))


def main(rank, size, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/group", TIMEOUT, size, rank)
    found = {"results": dict(results(rank, size, folder)), "refusals": dict(refusals(rank, size))}
    found["of shards"] = dict(of_shards(rank, size))
    torch.save(found, Path(folder) / f"{rank}.pt")
    if rank == size - 1:
        os._exit(0)  # dies without a word to the others
    problem = gk.ModuleProblem(model(), nn.CrossEntropyLoss())
    (Path(folder) / f"{rank}.txt").write_text(said(lambda: gk.over([samples()]).gradient(problem)))
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
