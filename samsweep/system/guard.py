"""A kernel lock around a short piece of work, where the file system has such locks."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

#: What file systems without kernel locks answer, such as NFS without its lock daemon.
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}


@contextmanager
def guarded(file: Path) -> Iterator[None]:
    """One process at a time inside the block; on a file system without locks any number.

    What happens inside must therefore be safe by itself, by renames and links.
    """
    lock = FileLock(file)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        lock.release()
