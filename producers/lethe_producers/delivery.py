"""Delivers the records of an order to a topic, from the beginning or where an earlier run stopped."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import httpx
from rich.progress import Progress

from lethe_producers.backpressure import Backpressure, fetch_positions
from lethe_producers.publisher import Publisher
from lethe_producers.records import Records
from lethe_producers.replay import Pace, first_to_send, left_to_send, replay

__all__ = ["BackpressureOptions", "DeliveryResult", "deliver"]

SHOW_EVERY: Final = 100
"""Records between two steps of the progress bar."""


@dataclass(frozen=True, slots=True)
class BackpressureOptions:
    """The services' URLs, how many records to be ahead of them, and the timeout for one, in seconds."""

    urls: Sequence[str] = ()
    window: int = 3000
    timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """The outcome of a run: records to send, records acknowledged, and how long it took.

    ``wanted`` is None for an endless stream, which only an interruption ends.
    """

    wanted: int | None
    acknowledged: int
    seconds: float
    trouble: str = ""
    """Why records were not acknowledged after an interruption."""


def deliver(
    records: Records,
    publisher: Publisher,
    pace: Pace,
    options: BackpressureOptions,
    resume: bool,
    bar: Progress,
) -> DeliveryResult:
    """Send ``records``; with ``resume``, only those that the topic lacks.

    Ctrl-C ends it early: queued records are acknowledged first, and ``acknowledged`` is less than
    ``wanted``. Raises BrokerUnavailable; InvalidSetting when it is not known where the last run stopped.
    """
    total = records.order.total
    run = records.order.run
    firsts = first_to_send(run, publisher.tails(run)) if resume else range(publisher.partitions)
    indices = left_to_send(total, firsts)
    wanted = None if total is None else sum(1 for _ in left_to_send(total, firsts))
    done = 0 if total is None or wanted is None else total - wanted
    task = bar.add_task(run, total=total, completed=done)

    def show(index: int) -> None:
        if (index + 1) % SHOW_EVERY == 0 or index + 1 == total:
            bar.update(task, completed=index + 1)

    started, trouble = time.monotonic(), ""
    with httpx.Client() as client:
        fetch = partial(fetch_positions, client)
        backpressure = Backpressure(options.urls, options.window, options.timeout, publisher.ends(), fetch)
        try:
            replay(records.at, publisher, indices, pace, backpressure, show)
        except KeyboardInterrupt as interrupt:
            bar.stop()
            trouble = "" if interrupt.__cause__ is None else str(interrupt.__cause__).partition(";")[0]
    return DeliveryResult(wanted, publisher.acknowledged, time.monotonic() - started, trouble)
