"""What every measure takes beside its own arguments, and what its result has."""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module
from torch.utils._pytree import tree_map

from samsweep.sharpness.examples import Inputs, collected, moved, outputs_of, some_of
from samsweep.sharpness.measuring_mode import copied_buffers, keeps_modes, training_modes
from samsweep.sharpness.passes import passes_shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Result = TypeVar("Result", bound="DataclassInstance")

#: Examples on which a network is tried.
_NUM_TRIED = 4

#: Types that nothing is differentiated twice in.
_HALF = frozenset({torch.float16, torch.bfloat16})


def measure_of_examples(measure: Callable[..., Result]) -> Callable[..., Result]:
    """Let a measure take what is said here, beside its own arguments.

    In place of ``inputs, labels`` a loader or any iterable of batches
    (:func:`~samsweep.sharpness.examples.collected`); arrays; structures of tensors, of which
    mappings are a network's keyword arguments. Of a network with parameters of half precision a
    copy in float32 is measured, and a loss that takes weights from the network sees the original's.

    ``params`` are the parameters to measure; by default all with ``requires_grad``. ``training``
    leaves each layer in its mode, so that batch norm takes the statistics of the batch, whose
    running ones stay; eval mode is the default. ``progress`` shows passes over the examples as they
    are taken.

    The result has ``seconds`` and ``settings``: the arguments but model and examples.
    """
    signature = inspect.signature(measure)

    @wraps(measure)
    def measured(
        model: Module,
        inputs: Any,
        labels: Any = None,
        *,
        params: Iterable[Tensor] | None = None,
        training: bool = False,
        progress: bool = False,
        **own: Any,
    ) -> Result:
        started = time.perf_counter()
        inputs, labels = collected(inputs, labels, _float_type(model))
        bound = signature.bind(model, inputs, labels, **own)
        bound.apply_defaults()
        settings = {key: _plain(value) for key, value in list(bound.arguments.items())[3:]}
        settings |= settings.pop("search", {})
        with ExitStack() as stack:
            if params is not None:
                stack.enter_context(_alone(model, params))
            model, inputs = _in_full_precision(model, inputs)
            if training:
                _check_no_draws(model, inputs)
                stack.enter_context(training_modes())
            if progress:
                stack.enter_context(passes_shown(measure.__name__))
            settings["training"] = keeps_modes()
            settings["num_params"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
            found = measure(model, inputs, labels, **own)
        seconds = time.perf_counter() - started
        return replace(found, seconds=seconds, **{"settings": settings})

    measured.__signature__ = _with_common(signature)  # type: ignore[attr-defined]
    return measured


def _with_common(signature: inspect.Signature) -> inspect.Signature:
    """With what every measure takes, for help and editors."""
    kinds = {"params": None, "training": False, "progress": False}
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in kinds.items()
    ]
    own = list(signature.parameters.values())
    last = [p for p in own if p.kind is p.VAR_KEYWORD]
    return signature.replace(parameters=[*own[: len(own) - len(last)], *common, *last])


def _plain(value: Any) -> Any:
    """A setting, or the name of a function."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return getattr(value, "__name__", type(value).__name__) if callable(value) else value


@contextmanager
def _alone(model: Module, params: Iterable[Tensor]) -> Iterator[None]:
    """Inside the block these parameters alone are trainable.

    Raises:
        ValueError: If there are none, or one is not the model's.
    """
    chosen = {id(p) for p in params}
    own = list(model.parameters())
    if not chosen or not chosen <= {id(p) for p in own}:
        raise ValueError("params has to be some of model.parameters(): give those, not their names")
    before = [p.requires_grad for p in own]
    try:
        for p in own:
            p.requires_grad_(id(p) in chosen)
        yield
    finally:
        for p, flag in zip(own, before, strict=True):
            p.requires_grad_(flag)


def _check_no_draws(model: Module, inputs: Inputs) -> None:
    """Refuse a network that is another one at every pass.

    Raises:
        ValueError: If a pass draws from torch's generators.
    """
    device = next(model.parameters()).device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), copied_buffers(model), torch.no_grad():
        before = _generators(devices)
        outputs_of(model, moved(some_of(inputs, slice(_NUM_TRIED)), device))
        if not all(map(torch.equal, before, _generators(devices))):
            raise ValueError(
                "training=True: the network draws at each pass, as dropout does: put the layers "
                "that do in eval mode"
            )


def _generators(devices: list[torch.device]) -> list[Tensor]:
    return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)]


def _float_type(model: Module) -> torch.dtype:
    """Of the numbers that a model takes."""
    kinds = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next((kind for kind in kinds if kind not in _HALF), torch.float32)


def _in_full_precision(model: Module, inputs: Inputs) -> tuple[Module, Inputs]:
    """Both as they are, or a copy of the model and the inputs in float32."""
    if _HALF.isdisjoint(p.dtype for p in model.parameters()):
        return model, inputs
    full = tree_map(lambda x: x.float() if x.dtype in _HALF else x, inputs)
    return copy.deepcopy(model).float(), full
