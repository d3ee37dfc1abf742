"""One pass over a mini-batch, forward and backward: as it is, or recorded as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from samsweep.config import Precision
from samsweep.vectors import Vector, copies

Network = Callable[[Tensor], Tensor]


def loss_and_logits(
    network: Network, images: Tensor, labels: Tensor, precision: Precision
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of a mini-batch, and the logits it comes from, both float32.

    Args:
        network: Images to logits, in train mode.
        images: Shape (B, C, H, W).
        labels: Shape (B,).
        precision: Of the forward pass.

    Returns:
        The loss, 0-d, with its graph, and the logits, shape (B, classes).
    """
    enabled = precision == "bfloat16"
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=enabled):
        logits = network(images).float()
    return F.cross_entropy(logits, labels), logits


def num_correct(logits: Tensor, labels: Tensor) -> Tensor:
    """How many images are classified as labelled, 0-d."""
    return (logits.detach().argmax(dim=1) == labels).sum()


class StepLoss:
    """The closure of one step.

    Args:
        network: Images to logits, in train mode.
        images: Shape (B, C, H, W).
        labels: Shape (B,).
        precision: Of the forward pass; the loss is float32.
    """

    def __init__(
        self, network: Network, images: Tensor, labels: Tensor, *, precision: Precision
    ) -> None:
        self._network = network
        self._images = images
        self._labels = labels
        self._precision = precision
        #: Images that the first pass, at w, classified as labelled; 0-d.
        self.num_correct: Tensor | None = None

    def __call__(self) -> Tensor:
        """The loss, 0-d, with its graph."""
        loss, logits = loss_and_logits(self._network, self._images, self._labels, self._precision)
        if self.num_correct is None:
            self.num_correct = num_correct(logits, self._labels)
        return loss


class Recording:
    """Both directions of a pass over mini-batches of one shape, recorded as a CUDA graph.

    A small network's pass is a few hundred kernels that take less time than Python needs to launch
    them. A recording launches them all at once: the same kernels on the same numbers, and so the
    same bits. It knows parameters and batch by address; whoever perturbs the parameters does it in
    place.

    Args:
        network: Images to logits, in train mode, on a CUDA device.
        params: What to differentiate by.
        buffers: What a pass changes beside its results, such as running statistics. Recording
            leaves them as they were.
        images: An example of a mini-batch, shape (B, C, H, W).
        labels: Its labels, shape (B,).
        precision: Of the forward pass.

    Raises:
        RuntimeError: If the pass cannot be recorded, with the remedy.
    """

    #: Passes that let libraries choose and set up what cannot be recorded.
    _WARM_UPS = 3

    def __init__(
        self,
        network: Network,
        params: Vector,
        buffers: Iterable[Tensor],
        images: Tensor,
        labels: Tensor,
        *,
        precision: Precision,
    ) -> None:
        self._network = network
        self._params = params
        self._precision = precision
        self._images, self._labels = images.clone(), labels.clone()
        moved = list(buffers)
        before = copies(moved)
        try:
            self._record()
        except RuntimeError as error:
            raise RuntimeError(
                f"cuda_graphs=true: the pass cannot be recorded ({error}); choose cuda_graphs=false"
            ) from error
        torch._foreach_copy_(moved, before)

    def _record(self) -> None:
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(self._WARM_UPS):
                self._differentiate()
        here.wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may copy to and from the device meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._loss, self._num_correct, self._grads = self._differentiate()

    def _differentiate(self) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
        with torch.enable_grad():
            loss, logits = loss_and_logits(
                self._network, self._images, self._labels, self._precision
            )
            grads = torch.autograd.grad(loss, self._params, allow_unused=True)
        return loss.detach(), num_correct(logits, self._labels), grads

    def load(self, images: Tensor, labels: Tensor) -> None:
        """Take up a mini-batch of the recorded shape."""
        self._images.copy_(images)
        self._labels.copy_(labels)

    def replay(self) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        """Loss, correct images and gradients where the parameters are now, the caller's to keep."""
        self._graph.replay()
        kept = iter(copies([g for g in self._grads if g is not None]))
        grads = [None if g is None else next(kept) for g in self._grads]
        return self._loss.clone(), self._num_correct.clone(), grads


class RecordedLoss:
    """The closure of one step whose passes are replays.

    Args:
        recording: Of passes over such mini-batches, by the optimizer's parameters.
        images: Shape (B, C, H, W).
        labels: Shape (B,).
    """

    def __init__(self, recording: Recording, images: Tensor, labels: Tensor) -> None:
        self._recording = recording
        recording.load(images, labels)
        #: Images that the first pass, at w, classified as labelled; 0-d.
        self.num_correct: Tensor | None = None

    def __call__(self) -> Tensor:
        """The loss, 0-d, without a graph."""
        return self.value_and_grad([])[0]

    def value_and_grad(self, params: Vector) -> tuple[Tensor, list[Tensor | None]]:
        """The loss, 0-d, and its gradients."""
        loss, correct, grads = self._recording.replay()
        if self.num_correct is None:
            self.num_correct = correct
        return loss, grads
