"""Which parameters are meant: by the kind of their layer, or by patterns of their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from samsweep.config import ConfigError

_NORM_LAYERS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)

#: Whether a parameter is chosen.
Choice = Callable[[Tensor], bool]


def is_norm_layer(module: nn.Module) -> bool:
    """Whether it normalises activations: torch's own classes, or named like one."""
    return isinstance(module, _NORM_LAYERS) or type(module).__name__.endswith("Norm")


def select(model: nn.Module, which: str | Sequence[str]) -> Choice | None:
    """The parameters that are perturbed; None for all.

    Args:
        model: The network.
        which: ``all``, or as :func:`chosen` has it.

    Raises:
        ConfigError: If none is chosen.
    """
    if which == "all":
        return None
    of_these = {id(param) for param in chosen(model, which, key="opt.perturb")}
    return lambda param: id(param) in of_these


def chosen(model: nn.Module, which: str | Sequence[str], *, key: str) -> list[nn.Parameter]:
    """The parameters that are meant.

    Args:
        model: The network.
        which: ``norm_layers`` (SAM-ON, Müller et al. 2023, arXiv 2306.04226), ``not_norm_layers``,
            ``biases``, ``no_biases``, or patterns of names such as ``layer3.*``, of which one has
            to match.
        key: Where that is written, for the message.

    Raises:
        ConfigError: If there is none.
    """
    named = _named(model)
    found = [param for name, param, layer in named if _is_in(name, layer, which)]
    if not found:
        names = [name for name, _, _ in named]
        text = which if isinstance(which, str) else f"[{','.join(which)}]"
        shown = ", ".join(names if len(names) <= 9 else [*names[:6], "...", *names[-2:]])
        raise ConfigError(f"{key}={text} chooses none of the parameters, which are {shown}.")
    return found


def _is_in(name: str, layer: nn.Module, which: str | Sequence[str]) -> bool:
    if which == "norm_layers":
        return is_norm_layer(layer)
    if which == "not_norm_layers":
        return not is_norm_layer(layer)
    if which in ("biases", "no_biases"):
        # Attention's in_proj_bias and the bias_ih_l0 of recurrent layers among them.
        is_bias = "bias" in name.rpartition(".")[2].split("_")
        return is_bias == (which == "biases")
    patterns = [which] if isinstance(which, str) else which
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _named(model: nn.Module) -> list[tuple[str, nn.Parameter, nn.Module]]:
    """Name, parameter and the layer that it stands in."""
    layers = dict(model.named_modules())
    return [(n, p, layers[n.rpartition(".")[0]]) for n, p in model.named_parameters()]
