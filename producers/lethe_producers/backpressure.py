"""Limits how far a producer runs ahead of the slowest service.

The embedded broker silently drops records beyond its capacity; with backpressure it never reaches that.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import httpx

from lethe.errors import BrokerUnavailable, InvalidSetting

__all__ = ["Backpressure", "fetch_positions"]

PAUSE: Final = 0.02
"""Seconds between two requests to a service that is a window behind."""
FRACTION: Final = 8
"""Sending continues when this fraction of the window is free, which takes few requests per window."""

Positions = dict[int, int]


def fetch_positions(client: httpx.Client, url: str) -> Positions:
    """Return, for each partition, the first offset that the service at ``url`` has not learned.

    Raises OSError when it does not answer, and InvalidSetting when its answer holds no positions.
    """
    try:
        response = client.get(url)
    except httpx.InvalidURL as error:
        raise InvalidSetting(f"--hold-back {url} is not an address: {error}") from error
    except httpx.UnsupportedProtocol as error:
        raise InvalidSetting(f"--hold-back {url} is not an http address") from error
    except httpx.HTTPError as error:
        raise ConnectionError(str(error)) from error
    if response.status_code != httpx.codes.OK:
        raise ConnectionError(f"it answers with status {response.status_code}")
    try:
        return {int(number): int(offset) for number, offset in response.json()["positions"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidSetting(f"--hold-back {url} does not answer with positions: {error!r}") from error


class Backpressure:
    """Compares the records sent with those that the slowest service has learned.

    ``ends`` holds the next offset of each partition. A service that cannot be reached is waited for
    ``timeout`` seconds, a slow one without a limit. ``fetch`` is `fetch_positions` with a client.
    """

    def __init__(
        self,
        urls: Sequence[str],
        window: int,
        timeout: float,
        ends: Sequence[int],
        fetch: Callable[[str], Positions],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1, not {window}")
        self._urls = tuple(urls)
        self._window = window
        self._timeout = timeout
        self._ends = list(ends)
        self._fetch = fetch
        self._clock = clock
        self._sleep = sleep
        self._free = 0

    def before_send(self, partition: int) -> None:
        """Wait until every service is within the window with one more record for ``partition``.

        Raises BrokerUnavailable, which names the URL, when a service cannot be reached.
        """
        if self._urls and self._free == 0:
            self._free = self._wait_for_window()
        self._free -= 1
        self._ends[partition] += 1

    def _wait_for_window(self) -> int:
        enough = max(1, self._window // FRACTION)
        while (free := self._window - max(map(self._behind, self._urls))) < enough:
            self._sleep(PAUSE)
        return free

    def _behind(self, url: str) -> int:
        """Return how many records the service at ``url`` has not learned."""
        deadline = self._clock() + self._timeout
        while True:
            try:
                positions = self._fetch(url)
            except OSError as error:
                if self._clock() >= deadline:
                    raise BrokerUnavailable(
                        f"the service at {url} has not answered for {self._timeout:g} s: {error}"
                    ) from error
                self._sleep(PAUSE)
            else:
                return sum(max(0, end - positions.get(number, 0)) for number, end in enumerate(self._ends))
