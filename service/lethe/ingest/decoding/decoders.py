"""The reader's side of its decoders: it gives values away, and takes the images back in any order."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Final

from lethe.errors import MalformedRecord, ReaderDied
from lethe.ingest.decoding.decoder import Outcome
from lethe.ingest.decoding.places import Places
from lethe.wire import Format, Pixels

__all__ = ["Decoders", "Given"]

MESSAGE_VALUES: Final = 8
"""Values in one message to a decoder, at most: messages cost as much as decoding a small image."""
MESSAGE_BYTES: Final = 64 << 10
"""The same in bytes, whichever is reached first."""


@dataclass(slots=True)
class Given:
    """A value that a decoder was given, and its outcome once that is known."""

    place: int
    decoder: int = 0
    outcome: Outcome | None = None


@dataclass
class _Decoder:
    connection: Connection
    messages: deque[list[Given]] = field(default_factory=deque)
    """Those that it has not answered; it answers in order."""
    values: int = 0
    """Values in `messages`."""


class Decoders:
    """Decoder processes, reached through ``connections``, and the ``places`` that they fill.

    Picklable only while a process is being spawned. Every method raises ReaderDied when a decoder has ended.
    """

    def __init__(self, connections: Sequence[Connection], places: Places) -> None:
        self._places = places
        self._decoders = [_Decoder(connection) for connection in connections]
        self._free = deque(range(places.count))
        self._next: list[tuple[Given, Format, bytes]] = []
        """The values of the next message."""

    @property
    def free(self) -> int:
        """How many more values can be given."""
        return len(self._free)

    @property
    def many_free(self) -> bool:
        """Whether enough values can be given to be worth a message."""
        return self.free >= min(MESSAGE_VALUES, self._places.count)

    def give(self, kind: Format, value: bytes) -> Given:
        """Give a value of this format to a decoder; there has to be a `free` place."""
        given = Given(self._free.popleft())
        self._next.append((given, kind, value))
        full = sum(len(value) for _, _, value in self._next) >= MESSAGE_BYTES
        if full or len(self._next) >= MESSAGE_VALUES:
            self.send()
        return given

    def send(self) -> None:
        """Send values that wait for a message to be full to the decoder that has the fewest."""
        if not self._next:
            return
        number = min(range(len(self._decoders)), key=lambda i: self._decoders[i].values)
        values = [(given.place, kind, value) for given, kind, value in self._next]
        message = [given for given, _, _ in self._next]
        self._next.clear()
        for given in message:
            given.decoder = number
        decoder = self._decoders[number]
        try:
            decoder.connection.send((self._places.epoch, values))
        except ConnectionError as error:
            raise self._died(number) from error
        decoder.messages.append(message)
        decoder.values += len(message)

    def pixels(self, given: Given) -> Pixels:
        """Wait for an image, and return a view of it, valid until `release`.

        Raises MalformedRecord if the value is malformed.
        """
        outcome = self._outcome(given)
        if isinstance(outcome, tuple):
            raise MalformedRecord(*outcome)
        x_CHW: Pixels = self._places.x_PCHW[given.place]
        return x_CHW

    def release(self, given: Given) -> None:
        """Overwrite an image with zeros, and free its place."""
        if self._outcome(given) == "decoded":
            self._places.discard(given.place)
        self._free.append(given.place)

    def discard(self) -> None:
        """Overwrite every image with zeros, also those that are being decoded, and free every place."""
        self._places.begin_epoch()
        self._next.clear()
        for number, decoder in enumerate(self._decoders):
            while decoder.messages:
                self._receive(number)
        self._places.discard_all()
        self._free = deque(range(self._places.count))

    def check(self) -> None:
        """Receive what has been decoded, without waiting."""
        for number, decoder in enumerate(self._decoders):
            while decoder.connection.poll():
                self._receive(number)

    def _outcome(self, given: Given) -> Outcome:
        if given.outcome is None:
            self.send()  # it may be in the next message
        while given.outcome is None:
            self._receive(given.decoder)
        return given.outcome

    def _receive(self, number: int) -> None:
        """Wait for the answer to the oldest message of a decoder."""
        decoder = self._decoders[number]
        try:
            outcomes: list[Outcome] = decoder.connection.recv()
        except (EOFError, ConnectionError) as error:
            raise self._died(number) from error
        for given, outcome in zip(decoder.messages.popleft(), outcomes, strict=True):
            given.outcome = outcome
            decoder.values -= 1

    def _died(self, number: int) -> ReaderDied:
        return ReaderDied(f"decoder {number + 1} of {len(self._decoders)} ended unexpectedly")
