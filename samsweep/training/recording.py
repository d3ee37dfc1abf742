"""CUDA graphs: what a function does on a GPU, recorded once and from then on launched at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


class Recording(Generic[Result]):
    """A function of tensors, as a CUDA graph of its kernels.

    A step of a small network is about a thousand kernels that take less time than Python needs to
    launch them. A recording launches them at once: the same kernels on the same numbers, and so
    the same bits. What it reads beside its inputs it knows by address: that may change its
    values, not its place.

    Args:
        function: Of the inputs; must not wait for the device.
        inputs: Examples, whose shapes all others share.
        keep: What the function changes in place. Recording leaves these as they were.
        after: A recording whose result this one reads. It is to be replayed before this one.

    Raises:
        RuntimeError: If the function cannot be recorded, with the remedy.
    """

    #: Calls that let libraries choose and set up what cannot be recorded.
    _WARM_UPS = 3

    def __init__(
        self,
        function: Callable[..., Result],
        *inputs: Tensor,
        keep: Iterable[Tensor] = (),
        after: Recording[Any] | None = None,
    ) -> None:
        self._inputs = [x.clone() for x in inputs]
        self._graph = torch.cuda.CUDAGraph()
        kept = [(tensor, tensor.clone()) for tensor in keep]
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(self._WARM_UPS):
                function(*self._inputs)
        here.wait_stream(aside)
        pool = None if after is None else after._graph.pool()
        try:
            # Other threads may copy to and from the device meanwhile.
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                #: What the latest replay gave; the next one writes over it.
                self.result = function(*self._inputs)
        except RuntimeError as error:
            # What went wrong in the function is followed by what that does to the recording.
            first = str(error.__context__ or error).partition("\n")[0]
            raise RuntimeError(
                f"cuda_graphs=true: a step cannot be recorded ({first}); choose cuda_graphs=false"
            ) from error
        for tensor, before in kept:
            tensor.copy_(before)

    def replay(self, *inputs: Tensor) -> Result:
        """The function's result for other inputs, in the memory of the one before."""
        for place, tensor in zip(self._inputs, inputs, strict=True):
            place.copy_(tensor)
        self._graph.replay()
        return self.result
