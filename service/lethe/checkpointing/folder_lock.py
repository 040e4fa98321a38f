"""Exclusive, private use of a state folder by one service."""

import fcntl
import logging
import os
import stat
from collections.abc import Collection
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from lethe.errors import InvalidSetting
from lethe.files.private import FILE_MODE, FOLDER_MODE, restrict_to_owner

__all__ = ["FolderLock"]

logger = logging.getLogger("lethe")


class FolderLock:
    """The lock of ``folder``, which is created if needed; held until `close` or the end of the process.

    Only this user can access the folder: the permissions of an existing one are restricted, unless it
    contains files whose names match none of the patterns ``own``. Raises InvalidSetting when the folder
    cannot be used, is locked by another service, or contains a symbolic link; the folder itself may be one.
    """

    def __init__(self, folder: Path, own: Collection[str]) -> None:
        try:
            folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            _make_private(folder, own)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE)
        except OSError as error:
            raise InvalidSetting(f"checkpoint.folder {folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise InvalidSetting(
                f"checkpoint.folder {folder} is in use by another service; each needs a folder of its own"
            ) from None
        self.identity = self._identify()
        """Random identifier of the folder, stored in the lock file."""

    def _identify(self) -> str:
        identity = os.read(self._lock, 64).decode(errors="replace")
        if not identity:
            identity = os.urandom(8).hex()
            os.write(self._lock, identity.encode())
        return identity

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock)


def _make_private(folder: Path, own: Collection[str]) -> None:
    """Reject symbolic links in ``folder``, and restrict it and its ``own`` files to this user."""
    foreign = False
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                raise InvalidSetting(
                    f"checkpoint.folder {folder}: {entry.name} is a symbolic link, which could lead outside "
                    "the folder; replace it by the file itself, or choose another folder"
                )
            if any(fnmatch(entry.name, pattern) for pattern in own):
                with suppress(FileNotFoundError):  # a service that holds the lock renames and deletes files
                    restrict_to_owner(Path(entry.path))
            else:
                foreign = True
    if stat.S_IMODE(folder.stat().st_mode) & 0o077 and (foreign or not restrict_to_owner(folder)):
        logger.warning(
            "other users can list the files in %s, but not read them: %s",
            folder,
            "it also contains files that are not the service's" if foreign else "it belongs to another user",
        )
