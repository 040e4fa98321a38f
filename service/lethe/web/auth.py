"""Bearer-token authentication for the HTTP interface."""

import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from lethe.errors import InvalidSetting

__all__ = ["bearer", "read_token"]

MIN_LENGTH: Final = 16
"""Characters; shorter tokens could be guessed."""

_scheme = HTTPBearer(auto_error=False, description="The content of the file named by serve.token_file.")


def read_token(path: Path) -> str:
    """Return the token in ``path``, without surrounding white space.

    Raises InvalidSetting when the file cannot be read or its token is too short or malformed.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"serve.token_file {path} cannot be read: {error}") from error
    if len(token) < MIN_LENGTH or not token.isprintable() or " " in token:
        raise InvalidSetting(
            f"serve.token_file {path}: a token has at least {MIN_LENGTH} printable characters"
        )
    return token


def bearer(token: str) -> Callable[[HTTPAuthorizationCredentials | None], None]:
    """Return a dependency that raises HTTPException 401 unless the request carries ``token``."""
    expected = token.encode()

    def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]) -> None:
        # in constant time, so that the duration does not reveal the token
        if given is None or not hmac.compare_digest(given.credentials.encode(), expected):
            raise HTTPException(
                401,
                "a bearer token is required",
                {"WWW-Authenticate": "Bearer"},
            )

    return check
