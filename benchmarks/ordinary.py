"""The training loop that everyone writes, as what samsweep's is compared with.

Pillow images through torchvision's transforms, a DataLoader with two workers, tensors in the
contiguous order, torch's convolutions, and SAM tensor by tensor in Python after the widely used
first_step and second_step.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from samsweep.data.splits import SplitData
from samsweep.models import build_model
from samsweep.models.conv import Conv2d

MOMENTUM, WEIGHT_DECAY = 0.9, 1e-3


class Pictures(Dataset):
    """Training images, as Pillow has them, changed one by one.

    Args:
        data: Where they and their moments come from.
        crop_padding: Zero pixels on every side before a crop.
        cutout: Side of the square that Cutout erases.
    """

    def __init__(self, data: SplitData, *, crop_padding: int, cutout: int) -> None:
        pixels = data.train.inputs.permute(0, 2, 3, 1).numpy()
        self._images = [Image.fromarray(image) for image in pixels]
        self._labels = data.train.labels.tolist()
        size, share = data.train.inputs.shape[-1], cutout**2 / data.train.inputs.shape[-1] ** 2
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(size, padding=crop_padding),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((data.mean / 255).tolist(), (data.std / 255).tolist()),
                transforms.RandomErasing(p=0.5, scale=(share, share), ratio=(1.0, 1.0)),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(self._images[index]), self._labels[index]


def batches(pictures: Pictures, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch."""
    return iter(
        DataLoader(pictures, batch_size=batch_size, shuffle=True, num_workers=2, drop_last=True)
    )


class PerTensorSAM(torch.optim.Optimizer):
    """SAM with a Python loop over the tensors; the base optimizer is torch's SGD."""

    def __init__(self, params, *, rho: float, lr: float) -> None:
        super().__init__(list(params), {"rho": rho})
        self.base = torch.optim.SGD(
            self.param_groups, lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, foreach=False
        )

    @torch.no_grad()
    def first_step(self) -> None:
        params = [p for p in self.param_groups[0]["params"] if p.grad is not None]
        norm = torch.norm(torch.stack([p.grad.norm(p=2) for p in params]), p=2)
        scale = self.param_groups[0]["rho"] / (norm + 1e-12)
        for p in params:
            self.state[p]["old_p"] = p.data.clone()
            p.add_(p.grad * scale)
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        for p in self.param_groups[0]["params"]:
            if p.grad is not None:
                p.data = self.state[p]["old_p"]
        self.base.step()
        self.zero_grad()


def network(name: str, data: SplitData) -> nn.Module:
    """The same network with torch's own convolutions, in the contiguous order."""
    torch.manual_seed(0)
    channels = data.train.inputs.shape[1]
    model = build_model(name, in_channels=channels, num_classes=data.num_classes)
    for module in model.modules():
        if type(module) is Conv2d:
            module.__class__ = nn.Conv2d
    return model.train()


def train_epoch(
    model: nn.Module, optimizer: PerTensorSAM, pictures: Pictures, batch_size: int
) -> None:
    """One epoch of SAM."""
    for images, labels in batches(pictures, batch_size):
        F.cross_entropy(model(images), labels).backward()
        optimizer.first_step()
        F.cross_entropy(model(images), labels).backward()
        optimizer.second_step()
