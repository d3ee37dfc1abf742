"""The conditions of a measurement, stated in one place and undone afterwards.

Curvature depends on them: with BatchNorm in train mode lambda_max is another quantity (78.0 against
3.9 on one network), and TF32 or autocast add noise that Lanczos takes for curvature.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch.nn import Module
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

#: Whether layers stay in their modes.
_keeps_modes: ContextVar[bool] = ContextVar("keeps_modes", default=False)


@contextmanager
def training_modes() -> Iterator[None]:
    """Inside the block measurements leave every layer in its mode."""
    token = _keeps_modes.set(True)
    try:
        yield
    finally:
        _keeps_modes.reset(token)


def keeps_modes() -> bool:
    """Whether this is inside :func:`training_modes`."""
    return _keeps_modes.get()


def check_one_batch(model: Module, num_examples: int, size: int) -> None:
    """Refuse micro-batches that batch norm would normalise one by one.

    Raises:
        ValueError: If there are several.
    """
    if num_examples > size and keeps_modes():
        if any(isinstance(m, _BatchNorm) and m.training for m in model.modules()):
            raise ValueError(
                f"training=True: {num_examples} examples are normalised together, choose "
                f"physical_batch_size={num_examples}"
            )


@contextmanager
def measuring(model: Module) -> Iterator[None]:
    """Put a model and PyTorch under the conditions of a measurement.

    * eval mode: BatchNorm uses its running statistics, Dropout is off; inside
      :func:`training_modes` each layer's own mode, with buffers as they were afterwards;
    * full precision: no autocast, no TF32, no bfloat16 behind float32;
    * differentiable twice: gradients are recorded, in inference mode too, attention takes its
      reference kernel, the only one that has second derivatives, and what was compiled by
      ``torch.compile`` runs as it was written.

    Parameters, their ``.grad`` and ``requires_grad``, and buffers are not touched. Mode and flags
    are found again as they were left, also after an exception.
    """
    device_types = {p.device.type for p in model.parameters()} or {"cpu"}
    with (
        copied_buffers(model) if keeps_modes() else evaluation_mode(model),
        full_precision(*device_types),
        sdpa_kernel(SDPBackend.MATH),
        uncompiled(),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        yield


@contextmanager
def copied_buffers(model: Module) -> Iterator[None]:
    """Let a model's layers move copies of their buffers.

    The buffers themselves are not moved and put back: a graph that outlives the block may hold
    what it was made with.
    """
    held = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        for module, name, buffer in held:
            setattr(module, name, buffer.clone())
        yield
    finally:
        for module, name, buffer in held:
            setattr(module, name, buffer)


def uncompiled() -> AbstractContextManager[Any]:
    """Inside the block compiled modules run eagerly: compiled graphs have no second derivative."""
    # Where nothing was compiled, the compiler has not been imported, which takes seconds.
    if "torch._dynamo" not in sys.modules or torch.__version__ < "2.6":
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


@contextmanager
def evaluation_mode(model: Module) -> Iterator[None]:
    """Put every module of a model in eval mode, and each back into its own.

    The flags are set directly: ``model.train()`` would give all modules one mode, and a network
    may override it.
    """
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in flags:
            module.training = False
        yield
    finally:
        for module, training in flags:
            module.training = training


@contextmanager
def full_precision(*device_types: str) -> Iterator[None]:
    """Compute float32 operations in float32, whatever was allowed before.

    No TF32 on CUDA, neither TF32 nor bfloat16 behind float32 in oneDNN, no autocast on device types
    such as ``"cuda"``.
    """
    with ExitStack() as stack:
        for device_type in device_types:
            stack.enter_context(torch.autocast(device_type, enabled=False))
        for owner, name, full in _precision_settings():
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, full)
        yield


def _precision_settings() -> list[tuple[Any, str, str | bool]]:
    """Owner, name and full-precision value of each of PyTorch's settings.

    Reading the older ``allow_tf32`` is an error once the newer ``fp32_precision`` was used, so
    that only the newer is touched where it exists. Both cuDNN settings move together, because
    the older one cannot distinguish them.
    """
    if torch.__version__ < "2.9":
        return [
            (torch.backends.cuda.matmul, "allow_tf32", False),
            (torch.backends.cudnn, "allow_tf32", False),
        ]
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    owners = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv)
    return [(owner, "fp32_precision", "ieee") for owner in owners]
