"""Random numbers that depend on what they are for, and on nothing else.

Every draw has a generator of its own, seeded by the cell's seed, a purpose and counters such as
epoch and step. So cells of one seed see the same initialisation, batch order and augmentation
(common random numbers), and a resumed run draws what it would have drawn anyway.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive_seed(seed: int, purpose: str, *counters: int) -> int:
    """A seed for one purpose: 63 bits of a hash, the same on every machine.

    Args:
        seed: The cell's seed.
        purpose: What the draws are for, such as ``order``.
        counters: What else they depend on, such as epoch and step.

    Returns:
        An integer in [0, 2⁶³).

    >>> derive_seed(0, "order", 1) == derive_seed(0, "order", 1) != derive_seed(0, "order", 2)
    True
    """
    text = "/".join([str(seed), purpose, *map(str, counters)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A CPU generator seeded by :func:`derive_seed`; the device must not decide the draws."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *counters))


def seed_global(seed: int) -> None:
    """Seed what code that is not ours may draw from: torch's, Python's and NumPy's generators."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
