"""A decoder process: decodes the values that it is given, in order, into shared memory."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Literal

from lethe.errors import MalformedRecord
from lethe.ingest.decoding.places import Places
from lethe.ingest.decoding.time_limit import within
from lethe.ingest.scrubbing import disable_core_dumps
from lethe.wire import Format, Layout, Reason, decode_as

__all__ = ["DecoderTask", "Outcome", "Values", "answer", "decode_values"]

Values = tuple[int, list[tuple[int, Format, bytes]]]
"""An epoch, and values of it: the place for each image, its format and its bytes."""
Outcome = tuple[Reason, str] | Literal["decoded", "skipped"]
"""Why a value is malformed; that its image is in its place; that the value is of an earlier epoch."""


@dataclass(frozen=True, slots=True)
class DecoderTask:
    """What a decoder decodes, and how.

    An image that takes more than ``seconds`` of its time is malformed. With ``no_core_dumps`` the process
    disables core dumps and debuggers.
    """

    layout: Layout
    seconds: float | None
    no_core_dumps: bool


def decode_values(connection: Connection, places: Places, task: DecoderTask) -> None:
    """Run in the child process until the reader has ended, then exit."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as the reader, it ends with the service
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if task.no_core_dumps:
        disable_core_dumps()
    answer(connection, places, task)
    os._exit(0)  # finalizing the interpreter is slow


def answer(connection: Connection, places: Places, task: DecoderTask) -> None:
    """Answer each message of `Values` with the outcome of each, until the other end is closed."""
    with suppress(EOFError, ConnectionError):
        while True:
            connection.send(_outcomes(connection.recv(), places, task))


def _outcomes(values: Values, places: Places, task: DecoderTask) -> list[Outcome]:
    # no reference to a value outlives this call: freed memory can be overwritten
    epoch, given = values
    return [
        _outcome(place, kind, value, places, task) if places.epoch == epoch else "skipped"
        for place, kind, value in given
    ]


def _outcome(place: int, kind: Format, value: bytes, places: Places, task: DecoderTask) -> Outcome:
    try:
        pixels = within(task.seconds, partial(decode_as, kind, value, {}, task.layout))
    except MalformedRecord as error:
        return Reason(error.reason), error.detail
    places.x_PCHW[place] = pixels
    if pixels.flags.writeable:  # numpy may keep the memory of small arrays
        pixels.fill(0)
    return "decoded"
