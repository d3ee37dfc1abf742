"""One process at a time."""

import errno
import json
import os
import subprocess
import time
from dataclasses import asdict, replace

import pytest
from helpers import make_folder, start

from samsweep.records.lock import FolderBusy, FolderLock, Holder, LockLost


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path)


def leave_lock(folder, holder, *, age_s):
    file = folder / "lock.json"
    file.write_text(json.dumps(asdict(holder)))
    past = time.time() - age_s
    os.utime(file, (past, past))


def ended_process():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_lock_is_there_while_held_and_gone_after(folder):
    with FolderLock(folder) as lock:
        lock.confirm()
        holder = lock.holder()
        assert holder is not None and holder.pid == os.getpid()
    assert os.listdir(folder) == []


def test_a_held_cell_is_busy_and_says_by_whom(folder):
    with (
        FolderLock(folder),
        pytest.raises(FolderBusy, match=f"held by process {os.getpid()} on "),
        FolderLock(folder),
    ):
        pass


def test_a_dead_process_of_this_machine_is_taken_over_at_once(folder):
    leave_lock(folder, replace(Holder.here(), pid=ended_process()), age_s=0)
    with FolderLock(folder) as lock:
        lock.confirm()


def test_another_machines_lock_is_respected_until_its_heart_stops(folder):
    other = replace(Holder.here(), host="elsewhere", machine="another boot", job_id="17")
    leave_lock(folder, other, age_s=10)
    with pytest.raises(FolderBusy, match="on elsewhere, job 17"), FolderLock(folder):
        pass
    leave_lock(folder, other, age_s=1000)
    with FolderLock(folder) as lock:
        lock.confirm()


def test_a_process_id_of_another_container_says_nothing(folder):
    """Same host name, another space of process ids: its holder may well be alive."""
    holder = replace(Holder.here(), machine="container", pid=ended_process())
    leave_lock(folder, holder, age_s=10)
    with pytest.raises(FolderBusy), FolderLock(folder):
        pass


@pytest.mark.parametrize("num_failures", [0, 5])
def test_the_heart_beats_and_survives_a_stumbling_file_system(folder, monkeypatch, num_failures):
    failures = iter([OSError("stale file handle")] * num_failures)
    utime = os.utime

    def stumbling(file, *arguments):
        for error in failures:
            raise error
        utime(file, *arguments)

    with FolderLock(folder, heartbeat_s=0.01) as lock:
        utime(lock.file, (0, 0))
        monkeypatch.setattr("samsweep.records.lock.os.utime", stumbling)
        deadline = time.monotonic() + 5
        while lock.file.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lock.file.stat().st_mtime > 0


def test_who_was_taken_over_notices_and_leaves_the_new_lock_alone(folder):
    taken = replace(Holder.here(), machine="another boot")
    with FolderLock(folder) as lock:
        leave_lock(folder, taken, age_s=0)
        with pytest.raises(LockLost, match="was taken over: now process"):
            lock.confirm()
    assert lock.holder() == taken


def test_an_unreadable_lock_is_busy_until_it_is_old(folder):
    (folder / "lock.json").write_text("{")
    with pytest.raises(FolderBusy, match="held by another process"), FolderLock(folder):
        pass
    os.utime(folder / "lock.json", (0, 0))
    with FolderLock(folder):
        pass


#: Holds the lock until all others have been refused.
TAKER = """
import os, sys, time
from pathlib import Path
from samsweep.records.lock import FolderBusy, FolderLock
folder = Path(sys.argv[1])
try:
    with FolderLock(folder) as lock:
        print("took")
        deadline = time.monotonic() + 100
        while len(list(folder.parent.glob("busy-*"))) < {others} and time.monotonic() < deadline:
            time.sleep(0.02)
        lock.confirm()
except FolderBusy:
    (folder.parent / f"busy-{{os.getpid()}}").touch()
    print("busy")
"""


def test_of_many_takers_one_wins(folder):
    """Twelve processes see one stale lock; exactly one may take it."""
    leave_lock(folder, replace(Holder.here(), machine="another boot"), age_s=1000)
    code = TAKER.format(others=11)
    processes = [start(folder, folder, code=code) for _ in range(12)]
    answers = [process.communicate()[0].strip() for process in processes]
    assert sorted(answers) == ["busy"] * 11 + ["took"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"pid": "x"}', b"[1]"])
def test_a_damaged_lock_names_nobody(folder, content):
    lock = FolderLock(folder)
    lock.file.write_bytes(content)
    assert lock.holder() is None
    assert lock.alive
    os.utime(lock.file, (0, 0))
    assert not lock.alive


# ------------------------------------------------------------------ clocks, file systems, damage


@pytest.fixture
def elsewhere():
    """A holder on another machine, whose processes cannot be asked."""
    return replace(Holder.here(), host="elsewhere", machine="another boot")


@pytest.mark.parametrize(
    ("age_s", "held"), [(10, True), (-10, True), (1000, False), (-3600, False)]
)
def test_a_heartbeat_from_the_future_is_as_stale_as_an_old_one(folder, elsewhere, age_s, held):
    leave_lock(folder, elsewhere, age_s=age_s)
    assert FolderLock(folder).alive == held
    if held:
        with pytest.raises(FolderBusy), FolderLock(folder):
            pass
    else:
        with FolderLock(folder) as lock:
            lock.confirm()


@pytest.mark.parametrize("skew_s", [-3600, 100, 3600])
def test_this_machines_clock_decides_nothing(folder, elsewhere, monkeypatch, skew_s):
    """All who ask get the answer of the file system's clock."""
    leave_lock(folder, elsewhere, age_s=10)
    now = time.time()
    monkeypatch.setattr("samsweep.records.lock.time.time", lambda: now + skew_s)
    assert FolderLock(folder).alive
    with pytest.raises(FolderBusy), FolderLock(folder):
        pass


def test_who_may_not_write_asks_the_clock_at_hand(folder, elsewhere, monkeypatch):
    def refuse(path, *arguments, **keys):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    leave_lock(folder, elsewhere, age_s=10)
    monkeypatch.setattr("samsweep.records.lock.Path.touch", refuse)
    assert FolderLock(folder).alive
    os.utime(folder / "lock.json", (0, 0))
    assert not FolderLock(folder).alive


@pytest.mark.parametrize("pid", [0, -1, -(2**31), 2**22 + 1, 10**30, "7", 7.5, None, True])
def test_a_process_id_that_none_can_have_names_nobody(folder, pid):
    """A signal to 0 or -1 would go to a group of processes, or to all of the user's."""
    lock = FolderLock(folder)
    lock.file.write_text(json.dumps(asdict(Holder.here()) | {"pid": pid}))
    assert lock.holder() is None
    assert lock.alive
    os.utime(lock.file, (0, 0))
    with FolderLock(folder) as taken:
        taken.confirm()


NO_LOCKS = """\
import errno, fcntl
def flock(descriptor, operation):
    raise OSError(errno.{error}, "no locks here")
fcntl.flock = flock
"""


@pytest.mark.parametrize("error", ["ENOLCK", "EOPNOTSUPP"])
def test_on_a_file_system_without_kernel_locks_one_taker_wins_too(folder, elsewhere, error):
    leave_lock(folder, elsewhere, age_s=1000)
    code = NO_LOCKS.format(error=error) + TAKER.format(others=7)
    processes = [start(folder, folder, code=code) for _ in range(8)]
    answers = [process.communicate()[0].strip() for process in processes]
    assert sorted(answers) == ["busy"] * 7 + ["took"]
    assert os.listdir(folder) == []


def test_a_file_system_without_links_has_locks_all_the_same(folder, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("samsweep.records.lock.os.link", refuse)
    with FolderLock(folder) as lock:
        lock.confirm()
        with pytest.raises(FolderBusy), FolderLock(folder):
            pass


def test_what_killed_takers_left_is_removed(folder, elsewhere):
    left = folder / f"lock.{elsewhere.token}"
    left.write_text("{")
    with FolderLock(folder):
        assert left.exists()  # perhaps of a taker that is about to use it
    os.utime(left, (0, 0))
    with FolderLock(folder):
        assert not left.exists()


def test_a_lock_that_comes_back_to_life_is_given_back(folder, elsewhere, monkeypatch):
    """A taker that has seen a stale lock finds another in its place."""
    leave_lock(folder, elsewhere, age_s=1000)
    other, late = replace(elsewhere, token="other"), FolderLock(folder)
    stale = late.holder()
    leave_lock(folder, other, age_s=0)
    with pytest.raises(FolderBusy, match="elsewhere"):
        late._discard(stale)
    assert FolderLock(folder).holder() == other


def test_a_dead_lock_is_cleared_and_a_living_one_stays(folder, elsewhere):
    leave_lock(folder, elsewhere, age_s=0)
    FolderLock(folder).clear()
    assert FolderLock(folder).holder() == elsewhere
    leave_lock(folder, elsewhere, age_s=1000)
    FolderLock(folder).clear()
    assert os.listdir(folder) == []
