"""A model behind HTTP, asked in one of the protocols of model servers."""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from lethe.errors import InvalidSetting, TargetUnavailable, UnexpectedAnswer
from lethe.files.bounded_json import read_json
from lethe.runtime.watch.targets.protocols import PROTOCOLS
from lethe.runtime.watch.targets.target import Answers, Form
from lethe.wire import Pixels

__all__ = ["HttpOptions", "HttpTarget"]

BACKOFF: Final = 0.2
"""Seconds before the first retry; doubled with each further one."""
AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may be gone with the next request."""
MAX_BODY: Final = 64 << 20
"""Bytes of an answer."""
QUOTED: Final = 200
"""Characters of an answer that an error quotes."""


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How requests are sent."""

    timeout: float = 10.0
    """Seconds for connecting, and for each part of an answer."""
    retries: int = 2
    """Further attempts after a failure that may be gone then."""
    token_file: Path | None = None
    """File with a bearer token; read for every request, because tokens are renewed."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    form: Form = field(default_factory=Form)


class HttpTarget:
    """A model at ``url`` that speaks ``protocol``, one of `PROTOCOLS`.

    Raises InvalidSetting for a URL, a protocol or a file that cannot be used.
    """

    def __init__(
        self,
        url: str,
        protocol: str,
        options: HttpOptions,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidSetting(f"--url {url}: an address such as http://model:8080/invocations is needed")
        if protocol not in PROTOCOLS:
            raise InvalidSetting(f"--protocol {protocol}: must be one of {', '.join(PROTOCOLS)}")
        self._url, self._protocol, self._options, self._sleep = url, PROTOCOLS[protocol], options, sleep
        self.name = parts.path.strip("/").removesuffix("/infer").rpartition("/")[2] or parts.hostname
        self.address = (
            f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
        )
        self._token()
        self._client = httpx.Client(
            timeout=options.timeout,
            verify=_context(options.ca_file),
            follow_redirects=False,  # a token must not be sent elsewhere
            transport=transport,
        )

    def ask(self, x_BCHW: Pixels) -> Answers:
        """Classify images. Raises TargetUnavailable, UnexpectedAnswer."""
        request = self._protocol.request(x_BCHW, self._options.form)
        shape = self._options.form.apply(x_BCHW).shape
        return self._protocol.answers(self._post(request), shape)

    def refresh(self) -> str | None:
        """Return None: the answers themselves say which version gave them."""
        return None

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _post(self, request: object) -> object:
        for attempt in range(self._options.retries + 1):
            if attempt:
                self._sleep(BACKOFF * 2 ** (attempt - 1))
            try:
                with self._client.stream("POST", self._url, json=request, headers=self._token()) as response:
                    body = _read(response)
            except InvalidSetting as error:  # the token's file may be back for the next round
                raise TargetUnavailable(str(error)) from error
            except httpx.HTTPError as error:
                failure = f"{self.address} does not answer: {str(error) or type(error).__name__}"
                continue
            if response.status_code == 200:
                try:
                    return read_json(body)
                except ValueError as error:
                    raise UnexpectedAnswer(
                        f"{self.address} answers with {_quoted(body)}, not JSON: {error}"
                    ) from error
            failure = f"{self.address} answers with status {response.status_code}: {_quoted(body)}"
            if response.status_code not in AGAIN:
                break
        raise TargetUnavailable(failure)

    def _token(self) -> dict[str, str]:
        path = self._options.token_file
        if path is None:
            return {}
        try:
            token = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSetting(f"--token-file {path} cannot be read: {error}") from error
        if not token.isprintable() or not token or " " in token:
            raise InvalidSetting(f"--token-file {path}: one token of printable characters is needed")
        return {"Authorization": f"Bearer {token}"}


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSetting(f"--ca-file {ca_file} cannot be read: {error}") from error


def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    for part in response.iter_bytes():
        body += part
        if len(body) > MAX_BODY:
            raise UnexpectedAnswer(f"the answer is longer than {MAX_BODY} bytes")
    return bytes(body)


def _quoted(body: bytes) -> str:
    return repr(body[:QUOTED].decode(errors="replace"))
