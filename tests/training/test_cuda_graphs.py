"""Recordings, as far as a CPU goes: torch.cuda is a stand-in that keeps what was captured."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from samsweep.training import probe
from samsweep.training.cuda_graphs import Recording

GPU = torch.device("cuda", 1)


@pytest.fixture
def cuda(monkeypatch):
    """What was entered, in order."""
    told = []

    class Graph:
        def pool(self):
            return self

        def replay(self):
            told.append("replay")

    class Stream:
        def wait_stream(self, other):
            told.append("wait")

    @contextmanager
    def entered(*what):
        told.append(what)
        yield
        told.append("left")

    @contextmanager
    def capture(graph, *, pool, stream, capture_error_mode):
        told.append(("capture", pool))
        try:
            yield
        except RuntimeError:
            # As torch does, whose end of a capture fails too.
            raise RuntimeError("operation failed due to a previous error\nmore") from None

    fake = SimpleNamespace(
        CUDAGraph=Graph,
        Stream=Stream,
        current_stream=Stream,
        stream=lambda stream: nullcontext(),
        device=lambda device: entered("device", device),
        graph=capture,
    )
    monkeypatch.setattr(torch, "cuda", fake)
    return told


def test_inputs_take_the_place_of_the_recorded_ones(cuda):
    seen = []

    def double(x):
        seen.append(x)
        return x * 2

    recording = Recording(double, torch.ones(3), device=GPU)
    assert len(seen) == Recording._WARM_UPS + 1
    assert recording.replay(torch.full((3,), 5.0)) is recording.result
    # What the graph's kernels would read is the place that they were recorded with.
    assert all(torch.equal(x, torch.full((3,), 5.0)) for x in seen)
    assert len(seen) == Recording._WARM_UPS + 1
    assert cuda[-3:] == [("device", GPU), "replay", "left"]


def test_what_the_function_changes_is_as_it_was(cuda):
    statistics = torch.zeros(2)
    Recording(lambda: statistics.add_(1), device=GPU, keep=[statistics])
    assert torch.equal(statistics, torch.zeros(2))


def test_a_function_that_cannot_be_recorded_is_told_by_its_own_error(cuda):
    statistics = torch.zeros(2)
    calls = []

    def fails_when_captured():
        calls.append(None)
        statistics.add_(1)
        if len(calls) > Recording._WARM_UPS:
            raise RuntimeError("not permitted when stream is capturing\nfor debugging")

    said = r"recorded \(not permitted when stream is capturing\); choose cuda_graphs=false$"
    with pytest.raises(RuntimeError, match=said):
        Recording(fails_when_captured, device=GPU, keep=[statistics])
    assert torch.equal(statistics, torch.zeros(2))


def test_a_recording_after_another_shares_its_memory(cuda):
    first = Recording(lambda: torch.ones(1), device=GPU)
    Recording(lambda: first.result + 1, device=GPU, after=first)
    captures = [told[1] for told in cuda if told[0] == "capture"]
    assert captures == [None, first._graph]


def test_another_shape_is_refused(cuda):
    recording = Recording(lambda x: x, torch.ones(8, 3), device=GPU)
    with pytest.raises(ValueError, match=r"recorded for \(8, 3\), not \(1, 3\)"):
        recording.replay(torch.ones(1, 3))


def test_a_gpu_is_timed_when_it_is_warm(monkeypatch):
    seconds = iter([9.0] * 20 + [1.0] * 20)
    monkeypatch.setattr(probe, "_time_step", lambda trainer, size: next(seconds))
    trainer = SimpleNamespace(device=torch.device("cuda"))
    assert probe._seconds_of_batch(trainer, 128) == 1.0
