"""The command ``lethe run``: the consumer service."""

import gc
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from lethe.cli.flags import with_settings
from lethe.files.terminal import LineFormatter
from lethe.ingest.fork_server import start_fork_server
from lethe.ingest.scrubbing import restart_with_scrubbing, scrubs_freed_memory
from lethe.runtime.ranks.environment import is_launched, is_rank, rank
from lethe.runtime.ranks.launch import launch, stop_with_launcher
from lethe.settings import Settings
from lethe.stream.reachability import why_unreachable

__all__ = ["run"]

logger = logging.getLogger("lethe")


@with_settings
def run(settings: Settings) -> None:
    """Learn from a Kafka topic, and serve metrics, a live page and predictions.

    These are the settings that most runs need; lethe settings lists all of them.

    Each setting is a flag and a variable LETHE_SECTION__NAME.
    """
    if settings.privacy.policy and not scrubs_freed_memory():
        from lethe.privacy.policy import load_policy

        if load_policy(settings.privacy.policy).residency_seconds is not None:
            restart_with_scrubbing("lethe", sys.argv[1:])
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    follows = is_rank() and rank() > 0
    launches = settings.run.ranks is not None and not is_rank()
    if follows:
        logger.setLevel(logging.WARNING)  # rank 0 says what concerns all
    elif not launches:
        # on a thread, because an address may not answer, and importing torch takes seconds
        Thread(target=_warn_if_unreachable, args=(settings.stream.bootstrap_servers,), daemon=True).start()
    if is_rank():
        with _importing():
            processes = start_fork_server()
            from lethe.runtime.run_rank import run_rank

        if is_launched():
            stop_with_launcher()
        run_rank(settings, processes)
    elif settings.run.ranks is not None:
        from lethe.runtime.ranks.supported import check_before_start

        check_before_start(settings)
        sys.exit(launch([sys.executable, "-m", "lethe", *sys.argv[1:]], settings.run.ranks))
    else:
        with _importing():
            processes = start_fork_server()
            from lethe.runtime.run import run_service  # not for --help

        run_service(settings, processes=processes)


@contextmanager
def _importing() -> Iterator[None]:
    """Import without garbage collection, which would look again and again at what modules define.

    Ctrl-C ends the process at once: there is nothing to finish yet, and a traceback would only show imports.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        signal.signal(signal.SIGINT, before)


def _warn_if_unreachable(bootstrap_servers: str) -> None:
    if why := why_unreachable(bootstrap_servers):
        logger.warning(
            "cannot connect to Kafka at %s (stream.bootstrap_servers); retrying until it answers",
            why,
        )
