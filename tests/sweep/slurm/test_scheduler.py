"""What is made of the answers of Slurm's commands; the commands themselves are stood in for."""

import subprocess

import pytest

from samsweep.config import ConfigError
from samsweep.sweep.slurm import scheduler as slurm
from samsweep.sweep.slurm.scheduler import (
    JobEnd,
    JobState,
    SlurmUnavailable,
    cancel_jobs,
    chunks,
    describe_jobs,
    ends_of_jobs,
    exclude_node,
    job_states,
    jobs_by_comment,
    max_array_size,
)

UNKNOWN = "slurm_load_jobs error: Invalid job id specified"
DOWN = (
    "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
    "slurm_load_jobs error: Socket timed out on send/recv operation",
    "slurm_load_jobs error: Zero Bytes were transmitted or received",
    "slurm_load_jobs error: Connection refused",
)
NO_ACCOUNTING = "Slurm accounting storage is disabled"

CONFIG = """Configuration data as of 2026-01-05T10:11:12
AccountingStorageType   = accounting_storage/none
MaxArraySize            = 64
MaxJobCount             = 10000
"""

#: Two elements of an array that run and wait, one job alone, and somebody else's.
QUEUE = """\
41_0|RUNNING|node1
41_1|PENDING|(Resources)
41_2|COMPLETING|node1
43|PENDING|(ReqNodeNotAvail, UnavailableNodes:node[1-2])
99|RUNNING|node2
"""

ENDED = (
    "JobId=42 ArrayJobId=41 ArrayTaskId=1 JobName=samsweep UserId=root(0) JobState={state} "
    "Reason=NonZeroExitCode Dependency=(null) Requeue=1 Restarts=0 ExitCode={code} RunTime=00:00:09"
)

SINGLE = "JobId=43 JobName=samsweep UserId=root(0) JobState={state} ExitCode=0:0 NodeList=n1"


@pytest.fixture
def answers(monkeypatch):
    """Answers of the commands by their names, and the list of the calls."""
    given, calls = {}, []

    def run(command, **keys):
        assert keys == {"capture_output": True, "text": True, "timeout": 60, "check": False}
        calls.append(list(command))
        answer = given[command[0]]
        if callable(answer):
            answer = answer(list(command))
        if isinstance(answer, Exception):
            raise answer
        code, out, err = answer
        return subprocess.CompletedProcess(command, code, out, err)

    monkeypatch.setattr(slurm.subprocess, "run", run)
    given["calls"] = calls
    return given


def says(out):
    return 0, out, ""


def refuses(err, out=""):
    return 1, out, err + "\n"


# --------------------------------------------------------------------------- the configuration


@pytest.mark.parametrize(
    ("told", "size"), [(CONFIG, 64), ("MaxJobCount = 10000\nNotMaxArraySize = 7\n", 1001)]
)
def test_the_largest_array_is_asked_for_and_has_a_default(answers, told, size):
    answers["scontrol"] = says(told)
    assert max_array_size() == size
    assert answers["calls"] == [["scontrol", "show", "config"]]


@pytest.mark.parametrize(
    "answer",
    [
        FileNotFoundError(2, "No such file or directory: 'scontrol'"),
        subprocess.TimeoutExpired("scontrol", 60),
        refuses("scontrol: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host"),
        refuses(""),
    ],
)
def test_without_slurm_the_launcher_is_refused_in_one_sentence(answers, answer):
    answers["scontrol"] = answer
    with pytest.raises(ConfigError, match=r"Slurm does not answer here \(.*scontrol.*\)") as told:
        max_array_size()
    assert "hydra/launcher=local" in str(told.value)
    assert "\n" not in str(told.value)


# --------------------------------------------------------------------------- the queue


def test_states_of_the_jobs_asked_for(answers):
    answers["squeue"] = says(QUEUE)
    assert job_states(["41_0", "41_1", "41_2", "41_3", "43"]) == {
        "41_0": JobState(state="RUNNING", reason="node1"),
        "41_1": JobState(state="PENDING", reason="Resources"),
        "41_2": JobState(state="COMPLETING", reason="node1"),
        "43": JobState(state="PENDING", reason="ReqNodeNotAvail, UnavailableNodes:node[1-2]"),
    }
    assert answers["calls"] == [["squeue", "-r", "-h", "-o", "%i|%T|%R", "-j", "41,43"]]


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"])
def test_a_job_that_has_ended_is_not_in_the_queue(answers, state):
    """squeue shows it for a moment."""
    answers["squeue"] = says(f"41_0|{state}|node1\n41_1|REQUEUED|(null)\n")
    assert job_states(["41_0", "41_1"]).keys() == {"41_1"}


def test_jobs_that_slurm_has_forgotten_are_not_in_the_queue(answers):
    assert job_states([]) == {} and answers["calls"] == []
    answers["squeue"] = refuses(UNKNOWN)
    assert job_states(["41_0"]) == {}


def test_two_hundred_arrays_are_asked_about_at_a_time(answers):
    def squeue(command):
        return says("".join(f"{number}_0|RUNNING|node1\n" for number in command[-1].split(",")))

    answers["squeue"] = squeue
    # Many elements of one array are one question.
    wanted = [f"{number}_{index}" for number in range(1, 452) for index in range(3)]
    assert job_states(wanted).keys() == {f"{number}_0" for number in range(1, 452)}
    asked = [command[-1].split(",") for command in answers["calls"]]
    assert [len(some) for some in asked] == [200, 200, 51]
    assert [number for some in asked for number in some] == [str(n) for n in range(1, 452)]


@pytest.mark.parametrize(
    "answer",
    [
        *map(refuses, DOWN),
        refuses("slurm_load_jobs error: Protocol authentication error"),
        refuses("squeue: error: Munge decode failed: Expired credential"),
        refuses("slurm_load_jobs error: Slurm backup controller in standby mode"),
        FileNotFoundError(2, "No such file or directory: 'squeue'"),
        subprocess.TimeoutExpired("squeue", 60),
    ],
)
def test_no_answer_is_no_empty_queue(answers, answer):
    answers["squeue"] = answer
    told = answer[2].partition(" (")[0].strip() if isinstance(answer, tuple) else "squeue"
    with pytest.raises(SlurmUnavailable, match=told):
        job_states(["41_0"])


def test_lines_that_are_no_jobs_are_passed_over(answers):
    answers["squeue"] = says("squeue: warning: something\n\n41_0|RUNNING|node1\n")
    assert job_states(["41_0"]).keys() == {"41_0"}


def test_states_are_counted_with_reasons():
    states = {
        "1": JobState(state="RUNNING", reason="node1"),
        "2": JobState(state="PENDING", reason="Priority"),
        "3": JobState(state="PENDING", reason="Priority"),
        "4": JobState(state="PENDING", reason="None"),
    }
    assert describe_jobs(states) == "1 pending, 2 pending (Priority), 1 running"
    assert describe_jobs({}) == ""


# --------------------------------------------------------------------------- how jobs ended


def test_the_controller_remembers_how_jobs_ended(answers):
    answers["scontrol"] = says(
        ENDED.format(state="TIMEOUT", code="0:15") + "\n" + SINGLE.format(state="RUNNING")
    )
    answers["sacct"] = says("")
    assert ends_of_jobs(["41_1"]) == {"41_1": JobEnd(state="TIMEOUT", code="0:15")}
    assert answers["calls"] == [["scontrol", "-o", "show", "job", "41"]]
    # One that still runs has not ended.
    assert ends_of_jobs(["43"]) == {}


@pytest.mark.parametrize(
    ("sacct", "end"),
    [
        (says("41_1|FAILED|1:0|n1\n"), "FAILED, exit code 1:0"),
        (says("41_1|CANCELLED by 1000|0:15|n1\n"), "CANCELLED, exit code 0:15"),
        # Requeued: the last line is the latest.
        (says("41_1|NODE_FAIL|1:0|n1\n41_1|COMPLETED|0:0|n2\n"), "COMPLETED, exit code 0:0"),
        (says("something else\n"), None),
        (says(""), None),
        (refuses(NO_ACCOUNTING), None),
        (refuses(""), None),
        (FileNotFoundError(2, "No such file"), None),
    ],
)
def test_accounting_may_remember_what_the_controller_has_forgotten(answers, sacct, end):
    answers["scontrol"] = refuses(UNKNOWN)
    answers["sacct"] = sacct
    found = ends_of_jobs(["41_1"])
    assert {job_id: str(told) for job_id, told in found.items()} == (
        {} if end is None else {"41_1": end}
    )


def test_a_controller_that_does_not_answer_tells_of_no_end(answers):
    answers["scontrol"] = refuses(DOWN[0])
    assert ends_of_jobs(["41_1"]) == {}


def test_jobs_are_found_by_the_last_word_of_their_comments(answers):
    answers["squeue"] = says("41_0|ours samsweep:a:0\n41_1|ours samsweep:a:0\n43|(null)\nnoise\n")
    assert jobs_by_comment() == {"samsweep:a:0": ["41_0", "41_1"], "(null)": ["43"]}


@pytest.mark.parametrize(("nodes", "excluded"), [("n1\nn2\n", True), ("n1\n", False)])
def test_a_node_is_excluded_where_there_are_others(answers, nodes, excluded):
    answers["squeue"] = says("41_0|gpu|(null)\n41_1|gpu|n9\n99|gpu|(null)\n")
    answers["sinfo"] = says(nodes)
    answers["scontrol"] = says("")
    assert exclude_node("n1", ["41_0", "41_1"]) is excluded
    updates = [call[2:] for call in answers["calls"] if call[0] == "scontrol"]
    expected = [["JobId=41_0", "ExcNodeList=n1"], ["JobId=41_1", "ExcNodeList=n9,n1"]]
    assert updates == (expected if excluded else [])


# --------------------------------------------------------------------------- cancelling


def test_jobs_are_cancelled_two_hundred_at_a_time(answers):
    answers["scancel"] = says("")
    cancel_jobs([f"7_{index}" for index in range(201)])
    assert [len(command) for command in answers["calls"]] == [201, 2]
    assert answers["calls"][0][:3] == ["scancel", "7_0", "7_1"]
    assert answers["calls"][1] == ["scancel", "7_200"]


def test_a_job_that_has_just_ended_is_cancelled_enough_and_no_controller_is_told(answers):
    answers["scancel"] = refuses("scancel: error: Kill job error on job id 7_0: Invalid job id")
    cancel_jobs(["7_0"])
    answers["scancel"] = refuses(DOWN[0])
    with pytest.raises(SlurmUnavailable):
        cancel_jobs(["7_0"])


def test_chunks_keep_order_and_lose_nothing():
    assert list(chunks("abcde", 2)) == [("a", "b"), ("c", "d"), ("e",)]
    assert list(chunks("", 2)) == []
