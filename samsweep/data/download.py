"""Published data sets, downloaded once: processes that ask at the same time wait for the first.

Importing this module, and :func:`download` where nothing is missing, are free of torch.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from samsweep.config import ConfigError
from samsweep.system.guard import guarded


@dataclass(frozen=True, kw_only=True)
class Release:
    """A data set as published; paths are relative to ``data_dir``.

    Args:
        archives: What is downloaded: ``.tar.gz``, ``.gz``, or a file that is used as it is.
        files: What is read, once the archives are unpacked.
        sources: Gives URL and MD5 checksum of each archive, as torchvision knows them.
    """

    archives: tuple[str, ...]
    files: tuple[str, ...]
    sources: Callable[[], Sequence[tuple[str, str]]]

    def is_available(self, data_dir: Path) -> bool:
        """Whether the data set lies unpacked in ``data_dir``. Looks at file names only."""
        return all((data_dir / file).is_file() for file in self.files)

    def download(self, name: str, data_dir: Path) -> None:
        """Fetch and unpack the data set unless it is there.

        An archive that already lies in ``data_dir`` with the published checksum is unpacked without
        any network.

        Args:
            name: Of the data set.
            data_dir: Folder of downloaded data sets; created if missing.

        Raises:
            ConfigError: If it can neither be found nor fetched.
        """
        if self.is_available(data_dir):
            return
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            with guarded(data_dir / f".{name}.lock"):
                if not self.is_available(data_dir):
                    self._fetch_and_unpack(name, data_dir)
        # torchvision reports a wrong checksum as RuntimeError.
        except (
            OSError,
            RuntimeError,
            EOFError,
            http.client.HTTPException,
            tarfile.TarError,
        ) as error:
            _remove_traces(data_dir, name)
            raise self._not_downloaded(name, data_dir, error) from error

    def damaged(self, name: str, data_dir: Path) -> ConfigError:
        """The error about files that are not those that were published."""
        there = dict.fromkeys(Path(file).parts[0] for file in self.files)
        return ConfigError(
            f"dataset={name} in {data_dir} does not have the published checksums: "
            f"delete {', '.join(there)} there and run again."
        )

    def _fetch_and_unpack(self, name: str, data_dir: Path) -> None:
        """Aside, and moved, so that a file in its final place is always whole."""
        from torchvision.datasets import utils

        with tempfile.TemporaryDirectory(dir=data_dir, prefix=f".{name}-") as folder:
            aside = Path(folder)
            for archive, (url, md5) in zip(self.archives, self.sources(), strict=True):
                if not utils.check_integrity(data_dir / archive, md5):
                    part = Path(archive).name
                    utils.download_url(url, aside, filename=part, md5=md5)
                    _move(aside / part, data_dir / archive)
                self._unpack(data_dir / archive, archive, aside)
            for file in self.files:
                if (aside / file).exists():
                    _move(aside / file, data_dir / file)

    def _unpack(self, path: Path, archive: str, aside: Path) -> None:
        if archive.endswith(".tar.gz"):
            with tarfile.open(path) as tar:
                # Not all that is in it: of stl10 the unlabelled images are most.
                tar.extractall(aside, [tar.getmember(file) for file in self.files], filter="data")
        elif archive.endswith(".gz"):
            target = aside / archive.removesuffix(".gz")
            target.parent.mkdir(parents=True, exist_ok=True)
            with gzip.open(path) as packed, target.open("wb") as stream:
                shutil.copyfileobj(packed, stream)

    def _not_downloaded(self, name: str, data_dir: Path, error: Exception) -> ConfigError:
        reason = " ".join(str(error).split())
        return ConfigError(
            f"dataset={name} is not in {data_dir} and could not be downloaded ({reason}): run once "
            f"where the network allows it or copy {', '.join(self.archives)} into that folder, or "
            "use dataset=image_folder dataset.path=FOLDER, or dataset=digits, which needs no "
            "download."
        )


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


def _remove_traces(data_dir: Path, name: str) -> None:
    """After a download that failed: no lock, and no folder if there is nothing in it."""
    with contextlib.suppress(OSError):
        (data_dir / f".{name}.lock").unlink(missing_ok=True)
        data_dir.rmdir()
