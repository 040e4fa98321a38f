"""The stage on which services are shown: a broker with a fresh topic, settings, free ports."""

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

from service.demo.host import purging
from service.settings import Settings, variable
from service.stream.cluster import delete_topics, ensure_topic
from service.stream.embedded import API_VERSION, EmbeddedBroker
from service.stream.settings import StreamSettings

__all__ = ["environment", "free_port", "fresh_topic"]


@contextmanager
def fresh_topic(
    broker: str | None,
    purpose: str,
    partitions: int = 1,
    readers: Sequence[str] = (),
    configs: Mapping[str, str] | None = None,
) -> Iterator[StreamSettings]:
    """Give the stream of a fresh topic, and delete it afterwards.

    ``broker`` is HOST:PORT of a Kafka cluster; None starts the embedded broker, for as long. That
    one purges what none of the ``readers`` needs any more: consumer groups, by what follows the
    topic's name in theirs. A cluster purges when it is told to; ``configs`` are for its topic.
    """
    topic = f"lethe-{purpose}-{os.getpid()}-{int(time.time())}"
    if broker is None:
        with EmbeddedBroker() as embedded:
            version = ".".join(map(str, API_VERSION))
            servers = embedded.bootstrap_servers
            # it takes no requests to delete records: this process has to, which is its host
            stream = StreamSettings(
                bootstrap_servers=servers, topic=topic, api_version=version, deletes=False
            )
            embedded.create_topic(stream.topic, partitions)
            embedded.create_topic(stream.dead_letters, 1)
            groups = [f"{topic}-{reader}" for reader in readers]
            with purging(embedded, stream, partitions, groups) if groups else nullcontext():
                yield stream
        return
    # how the cluster is secured is taken from LETHE_STREAM__SECURITY, as everywhere
    stream = Settings.read({"stream": {"bootstrap_servers": broker, "topic": topic}}).stream
    ensure_topic(stream, stream.topic, partitions, configs)
    try:
        yield stream
    finally:
        delete_topics(stream, [stream.topic, stream.dead_letters])


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that tell ``lethe run`` these settings, where they are not the defaults."""
    return {
        variable(section, name): json.dumps(value) if isinstance(value, dict) else str(value)
        for section in Settings.model_fields
        for name, value in getattr(settings, section).model_dump(exclude_defaults=True).items()
    }


def free_port() -> int:
    """Return a port of the loopback address that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
