"""What kafka-python's clients do not leave behind, once one was made here."""

import socket
import types
from collections.abc import Generator
from typing import Any

import pytest
from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.net.inet import KafkaNetSocket

from service.stream.client import open_client


class Waiting:
    """An event loop's place: whoever waits there waits for ever."""

    async def wait_write(self, _: socket.socket, timeout_at: float | None = None) -> None:
        await _for_ever()


@types.coroutine
def _for_ever() -> Generator[None, Any, None]:
    yield


def test_a_connection_that_is_given_up_while_it_is_made_leaves_no_socket() -> None:
    with pytest.raises(KafkaError):
        open_client(KafkaConsumer, bootstrap_servers="127.0.0.1:1", bootstrap_timeout_ms=1)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as abandoned:
        abandoned.setblocking(False)
        connecting = KafkaNetSocket().sock_connect(Waiting(), abandoned, server.getsockname())
        connecting.send(None)
        assert abandoned.fileno() != -1
        connecting.close()
        assert abandoned.fileno() == -1
