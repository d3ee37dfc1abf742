"""What each process of a distributed training does in its tests."""

import os
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from samsweep.optim import SAM, GradientDescent, OutputOf, SGDHess, frozen_statistics, gsam

NUM_RANKS = 2


class Sometimes(nn.Module):
    """A branch that the second rank does not take."""

    def __init__(self):
        super().__init__()
        self.always, self.branch, self.never = (nn.Linear(4, 3) for _ in range(3))

    def forward(self, x):
        outputs = self.always(x)
        is_first = not dist.is_initialized() or dist.get_rank() == 0
        return outputs + self.branch(x) if is_first else outputs


def network(kind="plain"):
    torch.manual_seed(0)
    if kind == "branches":
        return Sometimes().double()
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def mini_batch():
    draws = torch.Generator().manual_seed(1)
    inputs = torch.randn(16, 4, generator=draws, dtype=torch.float64)
    return inputs, torch.randint(3, (16,), generator=draws)


def optimizer_of(name, model, **keys):
    base = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, weight_decay=0.01)
    if name == "sgd":
        return GradientDescent(base)
    if name.startswith("sgdhess"):
        curvature = name.partition("-")[2]
        output = OutputOf(model) if curvature == "gauss_newton" else None
        return SGDHess(base, rho=0.1, curvature=curvature, output=output)
    rule = {
        "sam": {},
        "samdirection": {"magnitude": "sgd", "granularity": "global"},
        "sammagnitude": {"direction": "sgd"},
        "gsam": {"combination": gsam},
        "two_steps": {"ascent_steps": 2},
    }[name]
    return SAM(base, rho=0.5, second_pass=frozen_statistics(model), **rule, **keys)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def train(rank, name, how):
    """Five steps on this rank's half; returns the weights."""
    model = network("branches" if how == "branches" else "plain")
    inputs, labels = (x[rank * 8 : rank * 8 + 8] for x in mini_batch())
    own = {"each_rank": True} if how in ("each_rank", "overflow") else {}
    optimizer = optimizer_of(name, model, **own)
    unused = {"find_unused_parameters": True} if how == "branches" else {}
    if how in ("buckets", "loop"):
        unused["gradient_as_bucket_view"] = True
    if how == "overflow":
        optimizer.scaler = torch.amp.GradScaler("cpu")
    inner = torch.compile(model, backend="eager") if how == "compiled" else model
    wrapped = DistributedDataParallel(inner, **unused)

    def closure():
        loss = cross_entropy(wrapped(inputs), labels)
        if how in ("backward", "buckets", "loop"):
            loss.backward()
        return loss * float("inf") if how == "overflow" and rank else loss

    for _ in range(5):
        if how == "loop":
            optimizer.zero_grad()
            closure()
            optimizer.replay = closure
            optimizer.step()
        elif how == "no_sync":
            with wrapped.no_sync():
                optimizer.step(closure)
        else:
            optimizer.step(closure)
        if optimizer.scaler is not None:
            optimizer.scaler.update()
    return weights(model)


def main(rank, folder, name, how):
    store = f"file://{folder}/store-{name}-{how}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=NUM_RANKS)
    torch.save(train(rank, name, how), f"{folder}/{name}-{how}-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main(int(sys.argv[1]), *sys.argv[2:])
