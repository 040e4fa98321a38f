"""The bearer token that protects what the service shows, where the operator asked for one."""

import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.errors import InvalidSetting

__all__ = ["bearer", "read_token"]

SHORTEST: Final = 16
"""Characters; less could be tried out."""

_scheme = HTTPBearer(auto_error=False, description="The content of the file that serve.token_file names.")


def read_token(path: Path) -> str:
    """Return the token in ``path``, without the white space around it.

    Raises InvalidSetting when the file cannot be read, or holds no token that protects anything.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"serve.token_file {path} cannot be read: {error}") from error
    if len(token) < SHORTEST or not token.isprintable() or " " in token:
        raise InvalidSetting(f"serve.token_file {path}: a token is {SHORTEST} printable characters or more")
    return token


def bearer(token: str) -> Callable[[HTTPAuthorizationCredentials | None], None]:
    """Return a dependency that answers 401 unless the request carries ``token``."""
    expected = token.encode()

    def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]) -> None:
        # in constant time: how long a refusal takes tells nothing of the token
        if given is None or not hmac.compare_digest(given.credentials.encode(), expected):
            raise HTTPException(
                401,
                "the service's bearer token is needed",
                {"WWW-Authenticate": "Bearer"},
            )

    return check
