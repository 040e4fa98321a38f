"""Opens files that only their owner can access, and rejects symbolic links."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

__all__ = ["FILE_MODE", "FOLDER_MODE", "open_private", "reject_symlink", "restrict_to_owner"]

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
OTHERS: Final = 0o077
SYMLINK: Final = "is a symbolic link; replace it with the file itself"


@contextmanager
def open_private(path: Path, flags: int) -> Iterator[IO[bytes]]:
    """Open a file for writing with ``flags`` of `os.open`, and remove all access of other users.

    Raises OSError, also if ``path`` is a symbolic link.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | flags, FILE_MODE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, SYMLINK, str(path)) from None
        raise
    with os.fdopen(descriptor, "ab" if flags & os.O_APPEND else "wb") as file:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & OTHERS:
            with suppress(PermissionError):  # the file belongs to another user
                os.fchmod(descriptor, mode & ~OTHERS)
        yield file


def restrict_to_owner(path: Path) -> bool:
    """Remove all access of other users to a file or folder; return False if that is not permitted.

    It is not for a file that belongs to another user, such as the root of a mounted volume.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & OTHERS:
        try:
            path.chmod(mode & ~OTHERS)
        except PermissionError:
            return False
    return True


def reject_symlink(path: Path) -> None:
    """Raise OSError if ``path`` is a symbolic link."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, SYMLINK, str(path))
