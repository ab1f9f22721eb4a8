"""Images on disk: lossless, and named by the SHA-256 of the very bytes that are read."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError

__all__ = ["decode", "encode", "read_shard", "shard_path", "write_file", "write_shard"]

Images = npt.NDArray[np.uint8]

_SHARDS = "shards"


def encode(images: Images) -> bytes:
    """Images as a compressed .npz file; the same images give the same bytes.

    Args:
        images: Uint8 (N, H, W, C).

    Returns:
        The file's bytes.
    """
    file = io.BytesIO()
    np.savez_compressed(file, images=images)
    return file.getvalue()


def decode(content: bytes, what: str) -> Images:
    """The images of a shard's bytes.

    Args:
        content: The file's bytes.
        what: Names them in errors.

    Returns:
        Uint8 (N, H, W, C).

    Raises:
        DataError: The bytes are something else.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            images: Images = file["images"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{what} can't be read ({type(error).__name__}: {error})") from error
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(f"{what} holds {images.dtype} {images.shape}, not uint8 (N, H, W, C)")
    return images


def shard_path(folder: Path, sha256: str) -> Path:
    """Where a shard lies.

    Args:
        folder: The database.
        sha256: The shard's name.

    Returns:
        The file's path, whether it exists or not.
    """
    return folder / _SHARDS / f"{sha256}.npz"


def write_shard(folder: Path, images: Images) -> str:
    """Store images. A shard that exists already is left as it is.

    Args:
        folder: The database.
        images: Uint8 (N, H, W, C).

    Returns:
        The SHA-256 that names them.

    Raises:
        DataError: The file can't be written.
    """
    content = encode(images)
    sha256 = hashlib.sha256(content).hexdigest()
    path = shard_path(folder, sha256)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_file(path, content)
    return sha256


def read_shard(folder: Path, sha256: str) -> Images:
    """The images of a shard.

    Args:
        folder: The database.
        sha256: The shard's name.

    Returns:
        Uint8 (N, H, W, C).

    Raises:
        DataError: The file is missing or damaged.
    """
    path = shard_path(folder, sha256)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}; {_REMEDY}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path} is not the file that was written (SHA-256 differs); {_REMEDY}")
    return decode(content, str(path))


_REMEDY = "'firewall lab database verify --repair' removes what is damaged, and 'firewall lab attack' makes it again"


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also if the machine stops.

    Args:
        path: The file.
        content: Its bytes.

    Raises:
        DataError: There is no room, or the file can't be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DataError(
                f"no room for {path} ({error.strerror}); what was finished is kept: make room and run the same command "
                "again"
            ) from error
        raise DataError(f"can't write {path}: {error.strerror}") from error
