"""Twenty steps of each optimizer beside the code that its authors, or others, published.

    python benchmarks/reference_codes.py --folder CLONES

CLONES is a folder of the published repositories, of which nothing is part of this one::

    git clone https://github.com/davda54/sam
    git clone https://github.com/SamsungLabs/ASAM
    git clone https://github.com/juntang-zhuang/GSAM
    git clone https://github.com/nblt/F-SAM
    git clone https://github.com/BingcongLi/VaSSO
    git clone https://github.com/mueller-mp/SAM-ON
    git clone https://github.com/MarlonBecker/MSAM
    git clone https://github.com/rollovd/LookSAM
    git clone https://github.com/lhchau/saner
    git clone https://github.com/tml-epfl/understanding-sam
    git clone https://github.com/cltan023/stablesam2024
    git clone https://github.com/zzp1012/SAM-in-Late-Phase

What is missing is left out. Of a file only the classes and functions named here are run, not what
else it does when it is imported. pytorch_optimizer, unifiedsam and, where they are installed, zij's
optimizers are compared as released.

A small network with batch norm and biases, in float64, the same mini-batches. Prints a table and
writes ``benchmarks/results/reference_codes.json``: the largest difference of any weight after any
step, and the way that the weights went, which it is to be held against.
"""

from __future__ import annotations

import argparse
import ast
import math
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from harness import RESULTS, environment, write
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn import functional as F

from samsweep.optim import (
    SAM,
    AverageDirection,
    Epochs,
    Every,
    FriendlyDirection,
    Length,
    MomentumDirection,
    adaptive,
    frozen_statistics,
    gsam,
    named_weights,
    plain,
    saner,
    select,
    unified,
    unnormalized,
    wsam,
)
from samsweep.optim.radius import with_lr

NUM_STEPS = 20
RHO = 0.3
SGD = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
UNMOVED = {**SGD, "momentum": 0.0}
UNDECAYED = {**SGD, "weight_decay": 0.0}
ADAMW = {"lr": 0.01, "weight_decay": 0.0}

#: Why two normalised ascents differ.
SMALLER = "1e-16 beside the norm, ours 1e-12"

Batch = tuple[Tensor, Tensor]
Take = Callable[[Batch], object]


class Network(nn.Module):
    """A block with a shortcut, whose batch norm is named by its place, as in common ResNets."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.shortcut = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4 * 36, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.bn1(self.conv1(images)) + self.shortcut(images)
        return self.fc(x.relu().flatten(1))


class Plain(Network):
    """Without the shortcut: the one norm layer has bn in its name."""

    def __init__(self) -> None:
        super().__init__()
        del self.shortcut

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.bn1(self.conv1(images)).relu().flatten(1))


class OneTensor(nn.Module):
    """All parameters in one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(36, 5, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(images.flatten(1))


def make_network(kind: type[nn.Module] = Network) -> nn.Module:
    torch.manual_seed(0)
    return kind().double()


def batches() -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(NUM_STEPS):
        images = torch.randn(8, 1, 6, 6, generator=generator, dtype=torch.float64)
        yield images, torch.randint(0, 5, (8,), generator=generator)


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


@dataclass(frozen=True)
class Side:
    """A network, a step on a mini-batch, and how to have the weights at w after it."""

    model: nn.Module
    take: Take
    at_w: Callable[[], None] = lambda: None
    back: Callable[[], None] = lambda: None

    def weights(self) -> Tensor:
        self.at_w()
        flat = torch.cat([p.detach().flatten() for p in self.model.parameters()])
        self.back()
        return flat


@dataclass
class Table:
    """Rows, and what was left out."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def compare(self, code: str, what: str, why: str, ours: Side, theirs: Side) -> None:
        """Take the steps on both sides."""
        start, largest = ours.weights(), 0.0
        for batch in batches():
            ours.take(batch)
            theirs.take(batch)
            largest = max(largest, (ours.weights() - theirs.weights()).abs().max().item())
        way = (ours.weights() - start).abs().max().item()
        row = {"code": code, "ours": what, "difference": largest, "way": way, "why": why}
        self.rows.append(row)


# ------------------------------------------------------------------ our side


def ours(
    kind: type[nn.Module] = Network,
    base: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    values: dict[str, float] = SGD,
    with_model: Callable[[nn.Module], dict[str, Any]] = lambda model: {},
    with_base: Callable[[torch.optim.Optimizer], dict[str, Any]] = lambda base: {},
    decay: float = 0.0,
    after: Callable[[torch.optim.Optimizer], Callable[[], object]] = lambda base: lambda: None,
    **keys: Any,
) -> Side:
    model = make_network(kind)
    made = base(model.parameters(), **values)
    keys |= with_model(model) | with_base(made)
    optimizer = SAM(made, rho=RHO, second_pass=frozen_statistics(model), **keys)
    finish = after(made)

    def closure(batch: Batch) -> Tensor:
        if not decay:
            return loss_of(model, batch)
        return loss_of(model, batch) + decay / 2 * sum(p.square().sum() for p in model.parameters())

    def take(batch: Batch) -> None:
        optimizer.step(lambda: closure(batch))
        finish()

    return Side(model, take)


def with_floor(floor: float) -> Callable[..., list[Tensor]]:
    """SAM's ascent with another small number beside the norm."""

    def ascent(params: Any, grads: Any, rho: float) -> list[Tensor]:
        length = torch.cat([g.flatten() for g in grads]).norm()
        return [g * (rho / (length + floor)) for g in grads]

    return ascent


# ------------------------------------------------------------------ their side


def definitions(file: Path, *names: str, **given: Any) -> Any:
    """Classes and functions of a file, without what else it does when it is imported."""
    tree = ast.parse(file.read_text())
    kept = [n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    body = [n for n in kept if n.name in names]
    space = {"torch": torch, "math": math, "nn": nn, "Tensor": Tensor, "print": _silent, **given}
    space |= {"defaultdict": defaultdict, "List": list, "Any": Any, "Callable": Callable}
    exec(compile(ast.Module(body, []), str(file), "exec"), space)
    return SimpleNamespace(**{name: space[name] for name in names})


def _silent(*words: object) -> None:
    """For classes that print what they were made with."""


def backward(model: nn.Module, batch: Batch) -> Tensor:
    loss = loss_of(model, batch)
    loss.backward()
    return loss


def two_steps(
    make: Callable[[nn.Module], Any],
    kind: type[nn.Module] = Network,
    names: tuple[str, str] = ("first_step", "second_step"),
    then: str | None = None,
) -> Side:
    """Of an optimizer that has a method for each gradient."""
    model = make_network(kind)
    optimizer = make(model)
    zero = partial(model.zero_grad, set_to_none=True)

    def take(batch: Batch) -> None:
        zero()
        backward(model, batch)
        getattr(optimizer, names[0])()
        zero()
        backward(model, batch)
        getattr(optimizer, names[1])()
        if then is not None:
            getattr(optimizer, then)()

    return Side(model, take)


def given_a_gradient(
    make: Callable[[nn.Module], Any], kind: type[nn.Module] = Network, *, first: bool = True
) -> Side:
    """Of an optimizer whose step takes a closure, after a gradient of the caller's or without."""
    model = make_network(kind)
    optimizer = make(model)

    def take(batch: Batch) -> None:
        def closure() -> Tensor:
            model.zero_grad(set_to_none=True)
            return backward(model, batch)

        if first:
            closure()
        optimizer.step(closure)

    return Side(model, take)


def davda54(folder: Path, table: Table) -> None:
    code = definitions(folder / "sam.py", "SAM").SAM
    sgd = torch.optim.SGD

    def theirs(adaptive: bool) -> Side:
        return two_steps(lambda m: code(m.parameters(), sgd, rho=RHO, adaptive=adaptive, **SGD))

    table.compare("davda54/sam SAM", "SAM", "rounding", ours(), theirs(False))
    everything = {"with_model": lambda m: {"ascent": adaptive(0.0, list(m.parameters()))}}
    name = "davda54/sam SAM, adaptive=True"
    why = "rounding: biases by abs(w) as well, no eta"
    table.compare(name, "adaptive, eta 0, all scaled", why, ours(**everything), theirs(True))
    named = {"with_model": lambda m: {"ascent": adaptive(0.01, named_weights(m))}}
    table.compare(name, "adaptive, weights by name", "another rule", ours(**named), theirs(True))


def asam(folder: Path, table: Table) -> None:
    code = definitions(folder / "asam.py", "ASAM").ASAM
    named = {"with_model": lambda m: {"ascent": adaptive(0.01, named_weights(m))}}
    theirs = two_steps(
        lambda m: code(torch.optim.SGD(m.parameters(), **SGD), m, rho=RHO, eta=0.01),
        names=("ascent_step", "descent_step"),
    )
    name = "adaptive, weights by name"
    table.compare("SamsungLabs/ASAM ASAM", name, SMALLER, ours(**named), theirs)


def falling(base: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.LinearLR(base, 1.0, 0.1, total_iters=NUM_STEPS)


def their_gsam(code: Any, radius: Any) -> Side:
    model = make_network()
    base = torch.optim.SGD(model.parameters(), **SGD)
    schedule = falling(base)
    values = {"max_lr": 0.1, "min_lr": 0.0, "max_value": RHO, "min_value": 0.2 * RHO}
    alpha = {"alpha": 0.4} if "pytorch_optimizer" in code.__module__ else {"gsam_alpha": 0.4}
    scheduler = radius(schedule, **values)
    optimizer = code(model.parameters(), base, model, rho_scheduler=scheduler, **alpha)

    def take(batch: Batch) -> None:
        optimizer.set_closure(F.cross_entropy, *batch)
        optimizer.step()
        schedule.step()
        optimizer.update_rho_t()

    return Side(model, take)


def our_gsam() -> Side:
    radius = partial(with_lr, end=0.2)
    return ours(combination=gsam, radius=radius, after=lambda base: falling(base).step)


def authors_gsam(folder: Path, table: Table) -> None:
    stats = definitions(
        folder / "gsam/util.py",
        "enable_running_stats",
        "disable_running_stats",
        _BatchNorm=nn.modules.batchnorm._BatchNorm,
    )
    given = {
        **vars(stats),
        "contextlib": import_module("contextlib"),
        "ReduceOp": torch.distributed.ReduceOp,
    }
    code = definitions(folder / "gsam/gsam.py", "GSAM", **given).GSAM
    code.__module__ = "gsam"
    radius = definitions(folder / "gsam/scheduler.py", "ProportionScheduler").ProportionScheduler
    what = "gsam, radius with_lr"
    why = "1e-12 beside norms"
    table.compare("juntang-zhuang/GSAM GSAM", what, why, our_gsam(), their_gsam(code, radius))


def fsam(folder: Path, table: Table) -> None:
    code = definitions(folder / "utils.py", "FriendlySAM").FriendlySAM
    for sigma in (1.0, 0.6):
        make = partial(code, base_optimizer=torch.optim.SGD, rho=RHO, sigma=sigma, **SGD)
        theirs = two_steps(lambda m, make=make: make(m.parameters()))
        name = f"nblt/F-SAM FriendlySAM, sigma {sigma:g}"
        mine = ours(ascent_direction=FriendlyDirection(sigma))
        table.compare(name, "friendly", "rounding", mine, theirs)


def vasso(folder: Path, table: Table) -> None:
    same = SimpleNamespace(register=lambda: lambda cls: cls)
    given = {"OPTIMIZER_REGISTRY": same, "configurable": lambda: lambda function: function}
    code = definitions(folder / "solver/vasso.py", "VASSO", **given).VASSO

    def theirs() -> Side:
        def make(model: nn.Module) -> Any:
            return code(model.parameters(), torch.optim.SGD(model.parameters(), **SGD), RHO, 0.2)

        return two_steps(make)

    name = "BingcongLi/VaSSO VASSO"
    table.compare(
        name, "average", "1e-7 beside ‖d‖", ours(ascent_direction=AverageDirection()), theirs()
    )
    mine = ours(ascent_direction=AverageDirection(), ascent=with_floor(1e-7))
    table.compare(name, "average, 1e-7 beside ‖d‖", "rounding", mine, theirs())


def sam_on(folder: Path, table: Table) -> None:
    code = definitions(folder / "sam_on.py", "ASAM_ON", "SAM_ON")

    def compare(kind: type[nn.Module], which: Any, why: str, what: str, **only: bool) -> None:
        def make(model: nn.Module) -> Any:
            base = torch.optim.SGD(model.parameters(), **SGD)
            return code.SAM_ON(base, model, rho=RHO, **only)

        theirs = two_steps(make, kind, ("ascent_step", "descent_step"))
        mine = ours(kind, with_model=lambda m: {"perturbs": select(m, which)})
        flag = next(iter(only))
        table.compare(f"mueller-mp/SAM-ON SAM_ON, {flag}", what, why, mine, theirs)

    compare(Plain, "norm_layers", SMALLER, "norm_layers", only_norm=True)
    compare(Plain, "not_norm_layers", SMALLER, "not_norm_layers", no_norm=True)
    missed = "shortcut.1 has neither bn nor norm in its name"
    compare(Network, "norm_layers", missed, "norm_layers", only_norm=True)
    compare(Network, ["bn1.*"], SMALLER, "bn1.*", only_norm=True)


def msam(folder: Path, table: Table) -> None:
    code = definitions(folder / "optimizer/msam.py", "MSAM").MSAM
    adam = definitions(folder / "optimizer/adamW_msam.py", "AdamW_MSAM", "adamW_msam").AdamW_MSAM

    def theirs(make: Any) -> Side:
        model = make_network()
        optimizer = make(model.parameters())

        def take(batch: Batch) -> None:
            # Its weights rest at w + epsilon.
            model.zero_grad(set_to_none=True)
            backward(model, batch)
            optimizer.step()

        up, back = optimizer.move_up_to_momentumAscent, optimizer.move_back_from_momentumAscent
        return Side(model, take, back, up)

    def mine(sign: int, base: Any = torch.optim.SGD, values: Any = SGD, decay: float = 0.0) -> Side:
        return ours(
            base=base,
            decay=decay,
            values=values,
            with_base=lambda base: {"ascent_direction": MomentumDirection(base, sign)},
        )

    def sgd(values: Any) -> Side:
        return theirs(partial(code, rho=RHO, **values))

    name = "MarlonBecker/MSAM MSAM"
    bare = f"{name}, no weight decay"
    table.compare(bare, "momentum, sign -1", "rounding", mine(-1, values=UNDECAYED), sgd(UNDECAYED))
    table.compare(
        bare, "momentum, sign 1", "theirs goes down", mine(1, values=UNDECAYED), sgd(UNDECAYED)
    )
    decayed = "theirs decays w + epsilon, not w"
    table.compare(f"{name}, weight decay 0.01", "momentum, sign -1", decayed, mine(-1), sgd(SGD))
    inside = mine(-1, values=UNDECAYED, decay=0.01)
    what = "momentum, sign -1, decay as part of the loss"
    table.compare(f"{name}, weight decay 0.01", what, "rounding", inside, sgd(SGD))
    adamw = theirs(partial(adam, rho=RHO, **ADAMW))
    table.compare(
        "MarlonBecker/MSAM AdamW_MSAM, no weight decay",
        "momentum, sign -1",
        "rounding, divided by Adam",
        mine(-1, torch.optim.AdamW, ADAMW),
        adamw,
    )
    look(folder, table)


def look(folder: Path, table: Table) -> None:
    """MSAM's authors have a LookSAM to compare with; its decomposition is global."""
    code = definitions(folder / "optimizer/looksam.py", "LookSAM", "sgd").LookSAM
    model = make_network()
    optimizer = code(model.parameters(), rho=RHO, alpha=0.7, k=4, **SGD)
    steps = iter(range(NUM_STEPS))

    def take(batch: Batch) -> None:
        model.zero_grad(set_to_none=True)
        backward(model, batch)
        if next(steps) % 4 == 0:
            optimizer.move_up()
            model.zero_grad(set_to_none=True)
            backward(model, batch)
            optimizer.move_back()
        else:
            optimizer.update_gradient()
        with torch.no_grad():
            optimizer.SGD_step()

    mine = ours(when=Every(4, reuse=0.7))
    theirs = Side(model, take)
    why = "1e-12 beside ‖g‖²"
    table.compare("MarlonBecker/MSAM LookSAM", "every 4, reuse 0.7", why, mine, theirs)


def rollovd(folder: Path, table: Table) -> None:
    code = definitions(folder / "looksam.py", "LookSAM").LookSAM

    def theirs(kind: type[nn.Module]) -> Side:
        model = make_network(kind)
        sgd = torch.optim.SGD
        optimizer = code(4, 0.7, model, sgd, F.cross_entropy, rho=RHO, **SGD)
        steps = iter(range(NUM_STEPS))

        def take(batch: Batch) -> None:
            model.zero_grad(set_to_none=True)
            backward(model, batch)
            optimizer.step(next(steps), *batch)

        return Side(model, take)

    def mine(kind: type[nn.Module]) -> Side:
        return ours(kind, when=Every(4, reuse=0.7))

    what, name = "every 4, reuse 0.7", "rollovd/LookSAM"
    why = "1e-8 beside ‖g‖ and ‖v‖"
    table.compare(f"{name}, one tensor", what, why, mine(OneTensor), theirs(OneTensor))
    table.compare(name, what, "theirs is tensor by tensor", mine(Network), theirs(Network))


def saners(folder: Path, table: Table) -> None:
    def theirs(file: str, name: str, **values: Any) -> Side:
        code = getattr(definitions(folder / f"optimizer/{file}.py", name), name)
        return two_steps(lambda m: code(m.parameters(), rho=RHO, **values, **SGD))

    name = "lhchau/saner SANER"
    for alpha in (0.5, 0.8):
        their = partial(theirs, "saner", "SANER", alpha=alpha)
        mine = ours(combination=partial(saner, alpha=alpha))
        why = "rounding: its 1e-8 beside g decides no element"
        table.compare(f"{name}, alpha {alpha:g}", f"saner, alpha {alpha:g}", why, mine, their())
    mine = ours(ascent_direction=FriendlyDirection())
    their = theirs("fsam", "FriendlySAM")
    table.compare("lhchau/saner FriendlySAM", "friendly", "rounding", mine, their)
    mine = ours(ascent_direction=AverageDirection())
    table.compare("lhchau/saner VASSO", "average", "rounding", mine, theirs("vasso", "VASSO"))
    mine = ours(combination=gsam)
    their = theirs("gsam", "GSAM", alpha=0.4)
    table.compare("lhchau/saner GSAM", "gsam", "1e-12 beside norms", mine, their)


def understanding(folder: Path, table: Table) -> None:
    code = definitions(folder / "deep_nets/sam.py", "SAM").SAM

    def theirs(**keys: bool) -> Side:
        def make(model: nn.Module) -> Any:
            return code(model.parameters(), torch.optim.SGD, RHO, **keys, **SGD)

        return two_steps(make, then="step")

    name = "tml-epfl/understanding-sam SAM"
    plain = theirs(sam_no_grad_norm=True)
    mine = ours(ascent=unnormalized)
    table.compare(f"{name}, sam_no_grad_norm", "unnormalized", "its 1 + 1e-12", mine, plain)
    mine = ours(direction="sgd", magnitude="sam", granularity="global")
    their = theirs(sam_no_grad_norm=False, only_sam_step_size=True)
    what = "SAMMAGNITUDE, global"
    table.compare(f"{name}, only_sam_step_size", what, "rounding", mine, their)
    ascending(folder, table)


def ascending(folder: Path, table: Table) -> None:
    """Its several steps of ascent, each along the gradient where it starts, inside the ball."""

    def gradient(model: nn.Module) -> Tensor:
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    utils = SimpleNamespace(zero_grad=lambda m: m.zero_grad(), get_flat_grad=gradient)
    file = folder / "deep_nets/sam.py"
    code = definitions(file, "weight_ascent_step", "perturb_weights_sam", utils=utils)
    model = make_network()
    base = torch.optim.SGD(model.parameters(), **SGD)

    def take(batch: Batch) -> None:
        moved = code.perturb_weights_sam(
            model, lambda m: loss_of(m, batch), RHO, RHO / 3, 3, no_grad_norm=False
        )
        model.zero_grad()
        backward(model, batch)
        with torch.no_grad():
            for param in model.parameters():
                param.sub_(moved[param])
        base.step()

    name = "tml-epfl/understanding-sam, 3 steps of rho / 3"
    mine, theirs = ours(ascent_steps=3), Side(model, take)
    table.compare(name, "ascent_steps 3", "rounding", mine, theirs)
    _in_parts(code.perturb_weights_sam, table)


def _in_parts(perturb: Callable[..., dict[nn.Parameter, Tensor]], table: Table) -> None:
    """Their accumulation (train.py, --acc_steps): a perturbation of each part's own."""
    theirs, mine, num = make_network(), make_network(), 4
    base = torch.optim.SGD(theirs.parameters(), **SGD)
    optimizer = SAM(torch.optim.SGD(mine.parameters(), **SGD), rho=RHO)

    def parts_of(batch: Batch) -> list[Batch]:
        return list(zip(*(x.chunk(num) for x in batch), strict=True))

    def take_theirs(batch: Batch) -> None:
        total = {param: torch.zeros_like(param) for param in theirs.parameters()}
        for part in parts_of(batch):
            moved = perturb(
                theirs, lambda m, part=part: loss_of(m, part), RHO, RHO, 1, no_grad_norm=False
            )
            theirs.zero_grad()
            backward(theirs, part)
            with torch.no_grad():
                for param in theirs.parameters():
                    param.sub_(moved[param])
                    total[param] += param.grad / num
        for param in theirs.parameters():
            param.grad = total[param]
        base.step()

    def take_mine(batch: Batch) -> None:
        optimizer.step([partial(loss_of, mine, part) for part in parts_of(batch)])

    name = "tml-epfl/understanding-sam, accumulated in 4 parts"
    table.compare(
        name,
        "m a quarter of the mini-batch",
        "rounding",
        Side(mine, take_mine),
        Side(theirs, take_theirs),
    )


def stablesam(folder: Path, table: Table) -> None:
    """StableSAM's authors': a base optimizer is wrapped, and a step takes the second gradient."""
    for file, name, ascent, what in (
        ("sam.py", "SAM", plain, "SAMDIRECTION, global"),
        ("usam.py", "USAM", unnormalized, "SAMDIRECTION, global, unnormalized"),
    ):
        code = getattr(definitions(folder / file, name), name)

        def make(model: nn.Module, code: Any = code) -> Any:
            return code(torch.optim.SGD(model.parameters(), **SGD), rho=RHO, stable=True)

        mine = ours(direction="sam", magnitude="sgd", granularity="global", ascent=ascent)
        named = f"cltan023/stablesam2024 {name}, stable=True"
        table.compare(named, what, "1e-12 beside norms", mine, two_steps(make))


def late_phase(folder: Path, table: Table) -> None:
    """Zhou et al.'s: two optimizers, each with a momentum of its own (ERM_to_SAM.py)."""
    code = definitions(folder / "src/utils/SAM.py", "SAM").SAM
    start = NUM_STEPS // 2
    for values, why in (
        (UNMOVED, "rounding"),
        (SGD, "theirs begins SAM with a momentum of its own"),
    ):
        model = make_network()
        descent = torch.optim.SGD(model.parameters(), **values)
        ascent = code(model.parameters(), torch.optim.SGD, rho=RHO, **values)
        taken = iter(range(NUM_STEPS))

        def take(
            batch: Batch,
            model: Any = model,
            one: Any = descent,
            two: Any = ascent,
            taken: Any = taken,
        ) -> None:
            model.zero_grad()
            backward(model, batch)
            if next(taken) < start:
                one.step()
                return
            two.first_step(zero_grad=True)
            backward(model, batch)
            two.second_step(zero_grad=True)

        mine = ours(values=values, when=Epochs(first=start), length=Length(1, NUM_STEPS))
        moving = "" if values is SGD else ", momentum 0"
        name = f"zzp1012/SAM-in-Late-Phase, from the half on{moving}"
        table.compare(name, "epochs, first half of all", why, mine, Side(model, take))


# ------------------------------------------------------------------ installed packages


def released(package: str) -> ModuleType | None:
    try:
        return import_module(package)
    except ImportError:
        return None


def torch_optimizers(table: Table) -> None:
    import pytorch_optimizer
    from pytorch_optimizer.lr_scheduler import ProportionScheduler

    sgd, single = torch.optim.SGD, "its norm of g is one of float32"
    name = f"pytorch_optimizer {version('pytorch_optimizer')}"

    def compare(
        what: str,
        label: str,
        why: str,
        code: Any,
        kind: Any = Network,
        mine: Any = None,
        **keys: Any,
    ) -> None:
        their = given_a_gradient(lambda m: code(m.parameters(), sgd, rho=RHO, **keys, **SGD), kind)
        table.compare(f"{name} {label}", what, why, ours(kind, **(mine or {})), their)

    compare("SAM", "SAM", single, pytorch_optimizer.SAM)
    direction = {"ascent_direction": FriendlyDirection()}
    compare("friendly", "FriendlySAM", single, pytorch_optimizer.FriendlySAM, mine=direction)
    every = {"when": Every(4, reuse=0.7)}
    looks, keys = pytorch_optimizer.LookSAM, {"k": 4, "alpha": 0.7}
    label, what = "LookSAM", "every 4, reuse 0.7"
    why = f"{single}; 1e-8 beside ‖v‖"
    compare(what, f"{label}, one tensor", why, looks, OneTensor, every, **keys)
    compare(what, label, "theirs is tensor by tensor", looks, Network, every, **keys)
    coupled = {"rho": RHO, "gamma": 0.9, "decouple": False}
    theirs = given_a_gradient(
        lambda m: pytorch_optimizer.WSAM(m, m.parameters(), sgd, **coupled, **SGD), first=False
    )
    mine = ours(combination=wsam)
    table.compare(f"{name} WSAM, decouple=False", "wsam, gamma 0.9", single, mine, theirs)
    theirs = given_a_gradient(
        lambda m: pytorch_optimizer.WSAM(m, m.parameters(), sgd, rho=RHO, gamma=0.9, **SGD),
        first=False,
    )
    why = "theirs keeps h - g out of the momentum"
    mine = ours(combination=wsam)
    table.compare(f"{name} WSAM, decouple=True", "wsam, gamma 0.9", why, mine, theirs)
    theirs = their_gsam(pytorch_optimizer.GSAM, ProportionScheduler)
    table.compare(f"{name} GSAM", "gsam, radius with_lr", single, our_gsam(), theirs)


def unified_sam(table: Table) -> None:
    from unifiedsam import unifiedSAM

    name = f"unifiedsam {version('unifiedsam')}"
    for share in (0.0, 0.5, 1.0, "1/t", "1-1/t"):
        make = partial(unifiedSAM, base_optimizer=torch.optim.SGD, rho=RHO, lambd=share, **SGD)
        their = given_a_gradient(lambda m, make=make: make(m.parameters()))
        mine = ours(ascent=partial(unified, share=share))
        table.compare(f"{name}, lambda {share}", f"unified, {share}", "rounding", mine, their)


def zijs(table: Table) -> None:
    codes = released("zij.contrib.sharpness_aware")
    if codes is None:
        table.missing.append("zij")
        return
    sgd, name = torch.optim.SGD, f"zij {version('zij')}"
    theirs = given_a_gradient(lambda m: codes.ASAM(m.parameters(), sgd, rho=RHO, **SGD))
    mine = ours(with_model=lambda m: {"ascent": adaptive(0.0, list(m.parameters()))})
    why = "rounding: biases by abs(w) as well, no eta"
    table.compare(f"{name} ASAM", "adaptive, eta 0, all scaled", why, mine, theirs)
    coupled = {"rho": RHO, "gamma": 0.9, "decouple": False}
    theirs = given_a_gradient(
        lambda m: codes.WSAM(m.parameters(), sgd, model=m, **coupled, **SGD), first=False
    )
    mine = ours(combination=wsam)
    table.compare(f"{name} WSAM, decouple=False", "wsam, gamma 0.9", "rounding", mine, theirs)
    theirs = their_gsam(codes.GSAM, codes.ProportionScheduler)
    why = "1e-12 beside norms"
    table.compare(f"{name} GSAM", "gsam, radius with_lr", why, our_gsam(), theirs)
    adam = {"lr": 0.01}
    theirs = given_a_gradient(
        lambda m: codes.LookSAM(m.parameters(), torch.optim.Adam, rho=RHO, k=4, alpha=0.7, **adam),
        OneTensor,
    )
    mine = ours(OneTensor, torch.optim.Adam, adam, when=Every(4, reuse=0.7))
    why = "1e-8 beside ‖v‖"
    table.compare(f"{name} LookSAM, one tensor, Adam", "every 4, reuse 0.7", why, mine, theirs)


#: By the name of the clone's folder.
CLONES = {
    "sam": davda54,
    "ASAM": asam,
    "GSAM": authors_gsam,
    "F-SAM": fsam,
    "VaSSO": vasso,
    "SAM-ON": sam_on,
    "MSAM": msam,
    "LookSAM": rollovd,
    "saner": saners,
    "understanding-sam": understanding,
    "stablesam2024": stablesam,
    "SAM-in-Late-Phase": late_phase,
}


def commit_of(folder: Path) -> str:
    command = ["git", "-C", str(folder), "rev-parse", "--short=9", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the repositories are cloned")
    parser.add_argument("--out", type=Path, default=RESULTS / "reference_codes.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table, commits = Table(), {}
    for name, compare in CLONES.items():
        folder = arguments.folder and arguments.folder / name
        if folder is None or not folder.is_dir():
            table.missing.append(name)
            continue
        compare(folder, table)
        commits[name] = commit_of(folder)
    for compare_packages in (torch_optimizers, unified_sam, zijs):
        compare_packages(table)
    shown = [
        {**row, "difference": f"{row['difference']:.1e}", "way": f"{row['way']:.2f}"}
        for row in table.rows
    ]
    print(tabulate(shown, headers="keys", disable_numparse=True))
    if table.missing:
        print("\nLeft out, not there: " + ", ".join(table.missing))
    settings = {"steps": NUM_STEPS, "rho": RHO, "sgd": SGD, "commits": commits}
    write(arguments.out, {**settings, "rows": table.rows, "environment": environment()})


if __name__ == "__main__":
    main()
