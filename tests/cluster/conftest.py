"""A real Slurm on this machine, for tests that need one."""

import os
from pathlib import Path

import pytest
from helpers import run
from slurm_cluster import LONG, Cluster, cluster_folder, end_all, running, why_not


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slurm)
            item.add_marker(pytest.mark.xdist_group("slurm"))
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def the_cluster():
    """Slurm without accounting, two partitions, two GPUs that are none."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with running(Cluster(cluster_folder("test"))) as cluster:
        yield cluster


@pytest.fixture
def cluster(the_cluster, monkeypatch):
    """The cluster with an empty queue; commands find it."""
    monkeypatch.setenv("SLURM_CONF", str(the_cluster.conf))
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")
    yield the_cluster
    end_all()
    the_cluster.clear()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """Cells of LONG with SAM, run alone: what no interruption may change."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder, "-m", *LONG, "num_threads=1", "opt=sam", "seed=0,1", "hydra.launcher.workers=2")
    return folder
