"""Back-pressure: a producer that never runs further ahead of the slowest service than a window.

The embedded broker drops what it has no room for, silently; a producer that is held back never
gives it cause to.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import httpx

from service.errors import BrokerUnavailable, InvalidSetting

__all__ = ["HoldBack", "positions_at"]

PAUSE: Final = 0.02
"""Seconds between two questions to a service that has no room yet."""
FRACTION: Final = 8
"""Sending goes on when one FRACTION-th of the window is free: a few questions a window, not thousands."""

Positions = dict[int, int]


def positions_at(client: httpx.Client, url: str) -> Positions:
    """Return, for each partition, the first offset that the service at ``url`` has not learned.

    Raises OSError when it does not answer, and InvalidSetting when its answer has no positions.
    """
    try:
        response = client.get(url)
    except httpx.InvalidURL as error:
        raise InvalidSetting(f"hold-back {url} is not an address: {error}") from error
    except httpx.UnsupportedProtocol as error:
        raise InvalidSetting(f"hold-back {url} is not an http address") from error
    except httpx.HTTPError as error:
        raise ConnectionError(str(error)) from error
    if response.status_code != httpx.codes.OK:
        raise ConnectionError(f"it answers {response.status_code}")
    try:
        return {int(number): int(offset) for number, offset in response.json()["positions"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidSetting(f"hold-back {url} does not answer with positions: {error!r}") from error


class HoldBack:
    """Counts what was sent against what the slowest service has learned.

    ``ends`` holds the next offset of each partition. A service that cannot be reached is waited
    for ``timeout`` seconds; one that is only slow, for as long as it takes. ``ask`` is `positions_at`
    with a client.
    """

    def __init__(
        self,
        urls: Sequence[str],
        window: int,
        timeout: float,
        ends: Sequence[int],
        ask: Callable[[str], Positions],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1, not {window}")
        self._urls = tuple(urls)
        self._window = window
        self._timeout = timeout
        self._ends = list(ends)
        self._ask = ask
        self._clock = clock
        self._sleep = sleep
        self._room = 0

    def before_send(self, partition: int) -> None:
        """Return when one more record for ``partition`` leaves every service within the window.

        Raises BrokerUnavailable, which names the address, when a service cannot be reached.
        """
        if self._urls and self._room == 0:
            self._room = self._wait_for_room()
        self._room -= 1
        self._ends[partition] += 1

    def _wait_for_room(self) -> int:
        enough = max(1, self._window // FRACTION)
        while (room := self._window - max(map(self._behind, self._urls))) < enough:
            self._sleep(PAUSE)
        return room

    def _behind(self, url: str) -> int:
        """How many records the service at ``url`` has yet to learn."""
        deadline = self._clock() + self._timeout
        while True:
            try:
                positions = self._ask(url)
            except OSError as error:
                if self._clock() >= deadline:
                    raise BrokerUnavailable(
                        f"the service at {url} has not answered for {self._timeout:g} s: {error}"
                    ) from error
                self._sleep(PAUSE)
            else:
                return sum(max(0, end - positions.get(part, 0)) for part, end in enumerate(self._ends))
