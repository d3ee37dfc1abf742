"""Fixtures for all tests."""

import pytest
import torch
from hypothesis import settings

# Machines that stall for seconds are no defect of the product.
settings.register_profile("quick", max_examples=15, deadline=None)
settings.register_profile("thorough", max_examples=200, deadline=None)
settings.load_profile("quick")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Two test processes share two cores, and results must not depend on how many there are."""
    torch.set_num_threads(1)
