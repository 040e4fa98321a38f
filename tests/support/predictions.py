"""Reads a topic of predictions."""

import json
import time
from contextlib import closing
from typing import Any

from lethe.stream.consumer import KafkaSource
from lethe.stream.settings import StreamSettings

__all__ = ["predictions_in"]


def predictions_in(bootstrap_servers: str, topic: str) -> list[dict[str, Any]]:
    """The predictions in ``topic``, in order within each partition; the Kafka headers are ``sent_with``."""
    settings = StreamSettings(bootstrap_servers=bootstrap_servers, topic=topic)
    found = []
    with closing(KafkaSource(settings)) as source:
        ends, reached = source.ends(), dict(source.seek({}))
        deadline = time.monotonic() + 90
        while any(reached[p] < end for p, end in ends.items()):
            assert time.monotonic() < deadline, f"{topic} cannot be read to its end"
            for record in source.poll(0.5, 500, ()):
                headers = {name: (value or b"").decode() for name, value in record.headers}
                found.append({**json.loads(record.value or b""), "sent_with": headers, "sent_as": record.key})
            reached |= source.reached()
    return found
