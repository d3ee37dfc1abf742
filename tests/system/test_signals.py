"""What a signal to stop does: the first, the same one again, and a second."""

import os
import signal

import pytest

from samsweep.system import signals
from samsweep.system.signals import Interrupted, StopRequest


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is moved."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(signals, "time", clock)
    return clock


@pytest.fixture
def outer():
    """A handler of whoever is around us, that writes down what reaches it."""
    heard = []
    before = {s: signal.signal(s, lambda n, frame: heard.append(n)) for s in signals.STOP_SIGNALS}
    yield heard
    for signum, handler in before.items():
        signal.signal(signum, handler)


def send(signum):
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", signals.STOP_SIGNALS)
def test_the_first_signal_ends_the_work(signum, outer):
    with pytest.raises(Interrupted) as stopped, StopRequest():
        send(signum)
    assert stopped.value.signum == signum
    assert stopped.value.code == 128 + signum
    assert outer == []


def test_a_deferred_signal_waits_until_it_is_asked_for(outer):
    with StopRequest() as stop, stop.deferred():
        stop.check()
        send(signal.SIGTERM)
        with pytest.raises(Interrupted):
            stop.check()


@pytest.mark.parametrize("patient", [False, True])
def test_what_comes_again_at_once_is_no_second_signal(clock, outer, patient):
    """Slurm tells the process, and srun passes on what it was told itself."""
    with StopRequest(patient=patient) as stop, stop.deferred():
        send(signal.SIGTERM)
        clock.now += 1
        send(signal.SIGTERM)
        send(signal.SIGUSR2)
        assert (stop.signum, stop.times) == (signal.SIGTERM, 1)
    assert outer == []


@pytest.mark.parametrize("patient", [False, True])
def test_a_second_signal_acts_as_without_us_or_is_counted(clock, outer, patient):
    with StopRequest(patient=patient) as stop, stop.deferred():
        for _ in range(2):
            send(signal.SIGTERM)
            clock.now += 60
        assert (stop.signum, stop.times) == (signal.SIGTERM, 2)
        assert outer == ([] if patient else [signal.SIGTERM])


def test_ctrl_c_twice_is_a_second_one_however_quick(clock, outer):
    with StopRequest(patient=True) as stop, stop.deferred():
        send(signal.SIGINT)
        send(signal.SIGINT)
        assert stop.times == 2
    assert outer == []


def test_afterwards_the_handlers_are_those_from_before(outer):
    with StopRequest():
        pass
    send(signal.SIGTERM)
    assert outer == [signal.SIGTERM]
