"""Fixtures for all tests."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Two test processes share two cores, and results must not depend on how many there are."""
    torch.set_num_threads(1)
