"""Networks."""

from __future__ import annotations

from samsweep.config.registry import Component, Registry


def _resnet(block: str, depths: tuple[int, ...], widths: tuple[int, ...]) -> Component:
    return Component(
        factory="samsweep.models.resnet.ResNet",
        args={"block": block, "depths": depths, "widths": widths},
        ours=True,
    )


#: Take ``in_channels`` and ``num_classes``.
MODELS = Registry(
    "model",
    Component,
    {
        "resnet8": _resnet("basic", (1, 1, 1), (16, 32, 64)),
        "resnet20": _resnet("basic", (3, 3, 3), (16, 32, 64)),
        "resnet18": _resnet("basic", (2, 2, 2, 2), (64, 128, 256, 512)),
        "resnet34": _resnet("basic", (3, 4, 6, 3), (64, 128, 256, 512)),
        "resnet50": _resnet("bottleneck", (3, 4, 6, 3), (64, 128, 256, 512)),
        "wrn28_10": Component(
            factory="samsweep.models.wide_resnet.WideResNet",
            args={"depth": 28, "widen_factor": 10},
            ours=True,
        ),
    },
)
