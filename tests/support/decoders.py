"""Decoders in threads of the test's process, which answer as the processes do."""

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from threading import Thread

from lethe.ingest.decoding.decoder import DecoderTask, answer
from lethe.ingest.decoding.decoders import Decoders
from lethe.ingest.decoding.places import Places
from lethe.settings import BatchSettings
from lethe.wire import Layout

__all__ = ["decoding"]


@contextmanager
def decoding(
    layout: Layout, readers: int, samples: int, seconds: float | None = None
) -> Iterator[tuple[Decoders, Places]]:
    """Run decoders with places for ``samples`` images at most, and end them on exit."""
    context = get_context("spawn")
    places = Places(layout, BatchSettings(readers=readers, size=samples // 2, slots=2), context)
    task = DecoderTask(layout, seconds, no_core_dumps=False)
    pipes = [context.Pipe() for _ in range(readers)]
    threads = [Thread(target=answer, args=(theirs, places, task)) for _, theirs in pipes]
    for thread in threads:
        thread.start()
    try:
        yield Decoders([ours for ours, _ in pipes], places), places
    finally:
        for ours, _ in pipes:
            ours.close()
        for thread in threads:
            thread.join()
        for _, theirs in pipes:
            theirs.close()
