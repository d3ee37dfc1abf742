"""What every measure takes beside its own arguments, and what its result has."""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_map

from samsweep.sharpness.examples import Inputs, collected, number_of
from samsweep.sharpness.measuring_mode import training_modes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Result = TypeVar("Result", bound="DataclassInstance")

#: Told of each product with a matrix of all examples.
_told: ContextVar[Callable[[], None] | None] = ContextVar("told", default=None)

#: Types that nothing is differentiated twice in.
_HALF = frozenset({torch.float16, torch.bfloat16})


def measure_of_examples(measure: Callable[..., Result]) -> Callable[..., Result]:
    """Let a measure take what is said here, beside its own arguments.

    In place of ``inputs, labels`` a loader or any iterable of batches
    (:func:`~samsweep.sharpness.examples.collected`); arrays; structures of tensors, of which
    mappings are a network's keyword arguments. Of a network of half precision, or of mixed, a copy
    in float32 is measured, and a loss that takes weights from the network sees the original's.

    ``params`` are the parameters to measure; by default all with ``requires_grad``. ``training``
    leaves each layer in its mode, so that batch norm takes the statistics of the batch, whose
    running ones stay; eval mode is the default. ``progress`` shows products as they are taken.

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
        inputs, labels = collected(inputs, labels)
        bound = signature.bind(model, inputs, labels, **own)
        bound.apply_defaults()
        settings = {key: _plain(value) for key, value in list(bound.arguments.items())[3:]}
        settings |= settings.pop("search", {})
        with ExitStack() as stack:
            if params is not None:
                stack.enter_context(_alone(model, params))
            if training:
                _check_training(model, number_of(inputs), own)
                stack.enter_context(training_modes())
            if progress:
                stack.enter_context(_shown(measure.__name__))
            found = measure(*_in_full_precision(model, inputs), labels, **own)
        given = {"settings": {**settings, "training": training}}
        return replace(found, seconds=time.perf_counter() - started, **given)

    return measured


def product_taken() -> None:
    """Tell who wants to see it of a product over all examples."""
    told = _told.get()
    if told is not None:
        told()


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


def _check_training(model: Module, num_examples: int, own: dict[str, Any]) -> None:
    """Refuse what is another quantity in train mode at every look.

    Raises:
        ValueError: If masks are drawn, or the examples are not one batch.
    """
    layers = [module for module in model.modules() if module.training]
    drawn = [m for m in layers if isinstance(m, _DropoutNd) and m.p]
    if drawn:
        raise ValueError(
            f"training=True: {drawn[0]} draws another mask at each pass, put it in eval mode"
        )
    size = own.get("physical_batch_size", 256)
    if num_examples > size and any(isinstance(m, _BatchNorm) for m in layers):
        raise ValueError(
            f"training=True: {num_examples} examples are normalised together, choose "
            f"physical_batch_size={num_examples}"
        )


def _in_full_precision(model: Module, inputs: Inputs) -> tuple[Module, Inputs]:
    """Both as they are, or a copy of the model and the inputs in float32."""
    if _HALF.isdisjoint(p.dtype for p in model.parameters()):
        return model, inputs
    flags = [p.requires_grad for p in model.parameters()]
    full = copy.deepcopy(model).float()
    for p, flag in zip(full.parameters(), flags, strict=True):
        p.requires_grad_(flag)
    return full, tree_map(lambda x: x.float() if x.dtype in _HALF else x, inputs)


@contextmanager
def _shown(name: str) -> Iterator[None]:
    """Count products on the terminal."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(name)
        count = 0

        def told() -> None:
            nonlocal count
            count += 1
            bar.update(task, description=f"{name}: {count} products over all examples")

        token = _told.set(told)
        try:
            yield
        finally:
            _told.reset(token)
