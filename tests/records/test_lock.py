"""One process at a time."""

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


def test_of_many_takers_one_wins(folder):
    """Twelve processes see one stale lock; exactly one may take it."""
    leave_lock(folder, replace(Holder.here(), machine="another boot"), age_s=1000)
    code = (
        "import sys, time; from pathlib import Path\n"
        "from samsweep.records.lock import FolderBusy, FolderLock\n"
        "try:\n"
        "    with FolderLock(Path(sys.argv[1])): print('took'); time.sleep(3)\n"
        "except FolderBusy: print('busy')\n"
    )
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
