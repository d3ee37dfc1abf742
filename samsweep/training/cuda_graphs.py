"""CUDA graphs: what a function does on a GPU, recorded once and from then on launched at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


class Recording(Generic[Result]):
    """A function of tensors, as a CUDA graph of its kernels.

    A step of a small network is many short kernels, which Python takes longer to launch than a GPU
    to do. A recording launches them at once: the same kernels on the same numbers, and so the same
    bits. Whatever the function reads beside its inputs is known by address, or as the number that
    it was: tensors may change their values but not their place, all else (the mode of a module, a
    radius) stays as recorded.

    Args:
        function: Of the inputs; must not wait for the device.
        inputs: Examples; all others have their shapes.
        device: A CUDA device.
        keep: What the function changes in place. Recording leaves these as they were.
        after: A recording whose result this one reads, and which is replayed before this one. They
            share their memory, so that this one's result lasts until either is replayed.

    Raises:
        RuntimeError: If the function cannot be recorded, with the remedy.
    """

    #: Calls that let libraries choose and set up what cannot be recorded.
    _WARM_UPS = 3

    def __init__(
        self,
        function: Callable[..., Result],
        *inputs: Tensor,
        device: torch.device,
        keep: Iterable[Tensor] = (),
        after: Recording[Any] | None = None,
    ) -> None:
        self._device = device
        self._inputs = [x.clone() for x in inputs]
        self._graph = torch.cuda.CUDAGraph()
        kept = [(tensor, tensor.clone()) for tensor in keep]
        try:
            #: What the latest replay gave; the next one writes over it.
            self.result = self._record(function, None if after is None else after._graph.pool())
        except RuntimeError as error:
            # What went wrong in the function is followed by what that does to the recording.
            first = str(error.__context__ or error).partition("\n")[0]
            raise RuntimeError(
                f"cuda_graphs=true: a step cannot be recorded ({first}); choose cuda_graphs=false"
            ) from error
        finally:
            for tensor, before in kept:
                tensor.copy_(before)

    def _record(self, function: Callable[..., Result], pool: Any) -> Result:
        # The outer block gives the stream back even if the recording fails.
        with torch.cuda.device(self._device), torch.cuda.stream(torch.cuda.current_stream()):
            here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                for _ in range(self._WARM_UPS):
                    function(*self._inputs)
            here.wait_stream(aside)
            # What other threads do on a device meanwhile is no concern of this one.
            with torch.cuda.graph(
                self._graph, pool=pool, stream=aside, capture_error_mode="thread_local"
            ):
                return function(*self._inputs)

    def replay(self, *inputs: Tensor) -> Result:
        """The function's result for other inputs, in the memory of the one before.

        Raises:
            ValueError: If an input has another shape than what was recorded.
        """
        for place, tensor in zip(self._inputs, inputs, strict=True):
            if tensor.shape != place.shape:
                raise ValueError(f"recorded for {tuple(place.shape)}, not {tuple(tensor.shape)}")
            place.copy_(tensor)
        with torch.cuda.device(self._device):
            self._graph.replay()
        return self.result
