"""Small networks with enough structure to be wrong about, and their dense Hessians."""

import copy
import math
import warnings
from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call, hessian
from torch.nn.functional import cross_entropy

from samsweep.models import build_model

Problem = tuple[nn.Module, Tensor, Tensor]


class TinyResidual(nn.Module):
    """Convolution, residual branch, linear layer; 131 parameters, 143 with BatchNorm."""

    def __init__(self, *, batchnorm: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.branch = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(3) if batchnorm else nn.Identity() for _ in range(2)
        )
        self.head = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norms[0](self.stem(x)))
        x = torch.relu(x + self.norms[1](self.branch(x)))
        return self.head(x.mean(dim=(2, 3)))


@pytest.fixture
def problem() -> Callable[..., Problem]:
    """Builds a network in train mode, with its data; running statistics are not at their start."""

    def build(
        *, batchnorm: bool = True, dtype: torch.dtype = torch.float64, seed: int = 0
    ) -> Problem:
        torch.manual_seed(seed)
        model = TinyResidual(batchnorm=batchnorm).to(dtype)
        inputs, labels = torch.randn(11, 1, 4, 4, dtype=dtype), torch.randint(5, (11,))
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(2)
            for _ in range(5):
                model(2 * torch.randn_like(inputs) + 1)
        return model, inputs, labels

    return build


@pytest.fixture
def dense_hessian() -> Callable[..., Tensor]:
    """Computes the Hessian in eval mode, forward over reverse, shape (dim, dim)."""

    def build(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        trainable = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
        sizes = [p.numel() for p in trainable.values()]

        def loss(flat: Tensor) -> Tensor:
            parts = zip(trainable.items(), flat.split(sizes), strict=True)
            weights = {name: part.view_as(p) for (name, p), part in parts}
            return cross_entropy(functional_call(model, weights, (inputs,)), labels)

        was_training = model.training
        model.eval()
        with warnings.catch_warnings():  # PyTorch's own, about torch.jit
            warnings.simplefilter("ignore", FutureWarning)
            result = hessian(loss)(torch.cat([p.flatten() for p in trainable.values()]))
        model.train(was_training)
        return result

    return build


@pytest.fixture(scope="session")
def fitted() -> Callable[[float], Problem]:
    """Builds a float32 network with BatchNorm, trained on its data to any mean loss below 1.

    Past the training the loss is decided by a factor of the head; for one above 1 the labels are
    others than those trained on.
    """
    torch.manual_seed(0)
    model = TinyResidual(batchnorm=True).double()
    inputs, labels = torch.randn(11, 1, 4, 4, dtype=torch.float64), torch.randint(5, (11,))
    for _ in range(5):
        model(2 * torch.randn_like(inputs) + 1)
    model.eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(400):
        optimizer.zero_grad()
        cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    assert cross_entropy(model(inputs), labels) < 1e-2

    def build(loss: float) -> Problem:
        given = labels if loss < 1 else (labels + 1) % 5
        logits = model(inputs).detach()
        low, high = 1e-3, 1e3  # factors of the logits, by bisection
        for _ in range(100):
            factor = math.sqrt(low * high)
            if (cross_entropy(factor * logits, given) > loss) == (loss < 1):
                low = factor
            else:
                high = factor
        scaled = copy.deepcopy(model)
        with torch.no_grad():
            scaled.head.weight.mul_(factor)
            scaled.head.bias.mul_(factor)
        return scaled.float(), inputs.float(), given

    return build


@pytest.fixture(scope="session")
def trained():
    """ResNet-8, trained for a few dozen steps on the digits."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1
    labels = torch.tensor(labels)
    model = build_model("resnet8", in_channels=1, num_classes=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(60):
        batch = slice(step * 64 % 1700, step * 64 % 1700 + 64)
        optimizer.zero_grad()
        cross_entropy(model(inputs[batch]), labels[batch]).backward()
        optimizer.step()
    return model, inputs[:128], labels[:128]
