"""One run of a producer: an order's records into a topic, from where it stands to the stream's end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import httpx
from rich.progress import Progress

from producers.holdback import HoldBack, positions_at
from producers.publisher import Publisher
from producers.records import Records
from producers.replay import Pace, first_to_send, left_to_send, replay

__all__ = ["Delivered", "HoldBackOptions", "deliver"]

SHOW_EVERY: Final = 100
"""Records between two steps of the progress bar."""


@dataclass(frozen=True, slots=True)
class HoldBackOptions:
    """Which services to wait for, how many records to be ahead of them, how many seconds to wait for one."""

    urls: Sequence[str] = ()
    window: int = 3000
    timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came of a run: how many records it had to send, how many were acknowledged, in what time."""

    wanted: int
    acknowledged: int
    seconds: float


def deliver(
    records: Records,
    publisher: Publisher,
    pace: Pace,
    hold_back: HoldBackOptions,
    resume: bool,
    bar: Progress,
) -> Delivered:
    """Send what the topic lacks of ``records`` (all of it, without ``resume``).

    Ctrl-C ends it early: what was queued is acknowledged first, and ``acknowledged`` is less than
    ``wanted``. Raises BrokerUnavailable; InvalidSetting when it cannot be told where it stopped.
    """
    total = len(records)
    run = records.order.run
    firsts = first_to_send(run, publisher.tails(run)) if resume else range(publisher.partitions)
    indices = left_to_send(total, firsts)
    task = bar.add_task(run, total=total, completed=total - len(indices))

    def show(index: int) -> None:
        if (index + 1) % SHOW_EVERY == 0 or index + 1 == total:
            bar.update(task, completed=index + 1)

    started = time.monotonic()
    with httpx.Client() as client:
        ask = partial(positions_at, client)
        throttle = HoldBack(hold_back.urls, hold_back.window, hold_back.timeout, publisher.ends(), ask)
        try:
            replay(records.at, publisher, indices, pace, throttle, show)
        except KeyboardInterrupt:
            bar.stop()
    return Delivered(len(indices), publisher.acknowledged, time.monotonic() - started)
