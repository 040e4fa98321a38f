"""Makes kafka-python's clients, without habits that would end a service that runs for ever.

A client that cannot reach its cluster leaves a thread and some sockets behind, once for every
attempt, and says only that it gave up, no sooner when it is refused than when nobody answers. One
that is closed while it connects leaves that socket. It drops what a cluster says just before it
closes the connection, such as that the password is wrong. And a consumer gives up at a header whose
name is not UTF-8, though Kafka takes any bytes: it reads neither the batch that holds it nor
anything after it, and its next poll never returns. Here such a name is read with replacement
characters and then ignored like every unknown one.
"""

from collections.abc import Callable
from typing import Any, Final

from kafka.errors import CorruptRecordError, KafkaConfigurationError, KafkaTimeoutError
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.record.default_records import DefaultRecordBatch

from service.errors import InvalidSetting
from service.stream.refusal import check_options, refusal, trouble

__all__ = ["open_client"]

_strict: Final = DefaultRecordBatch.__next__
_sock_connect: Final = KafkaNetSocket.sock_connect
_shake_hands: Final = KafkaSSLTransport.handshake
_receive: Final = {kind: kind._sock_recv for kind in (KafkaTCPTransport, KafkaSSLTransport)}


def open_client(kind: Callable[..., Any], **options: Any) -> Any:
    """Return ``kind(**options)``, a consumer, producer or admin client of kafka-python.

    Raises what it raises, after closing whatever it had opened; InvalidSetting, which names the
    option of ``security``, when that is what the cluster, or kafka-python, does not take.
    """
    _tame()
    check_options(options)
    opened: list[Any] = []
    connections: list[Any] = []

    def remember(**config: Any) -> Any:
        client = KafkaNetClient(**config)
        connect = client._manager.get_connection

        def noted(*args: Any, **kwargs: Any) -> Any:
            if (refused := refusal(connections, options)) is not None:
                raise refused  # trying again would not help
            connections.append(connect(*args, **kwargs))
            return connections[-1]

        client._manager.get_connection = noted
        opened.append(client)
        return client

    try:
        made = kind(**options, kafka_client=remember)
    except BaseException as error:
        for client in opened:
            client.close()
        if isinstance(error, KafkaConfigurationError):
            raise InvalidSetting(
                f"security (LETHE_STREAM__SECURITY): kafka-python refuses it: {error}"
            ) from error
        if isinstance(error, KafkaTimeoutError) and connections:
            raise refusal(connections, options) or trouble(connections, options) from error
        raise
    for client in opened:
        del client._manager.get_connection
    return made


def _tame() -> None:
    DefaultRecordBatch.__next__ = _next
    KafkaNetSocket.sock_connect = _connected
    KafkaSSLTransport.handshake = _handshake
    for kind in _receive:
        kind._sock_recv = _received


async def _connected(net_socket: Any, net: Any, sock: Any, sockaddr: Any, timeout_at: Any = None) -> Any:
    try:
        return await _sock_connect(net_socket, net, sock, sockaddr, timeout_at=timeout_at)
    except BaseException:
        sock.close()
        raise


async def _handshake(transport: Any) -> None:
    try:
        await _shake_hands(transport)
    except BaseException:
        transport._sock.close()
        raise


def _received(transport: Any) -> tuple[bytes, Exception | None]:
    """Receive; what came before an error counts, which the next call meets again."""
    data, error = _receive[type(transport)](transport)
    return data, None if data else error


def _next(batch: Any) -> Any:
    try:
        return _strict(batch)
    except CorruptRecordError as error:
        if not isinstance(error.__context__, UnicodeDecodeError):
            raise
    strict = batch._buffer
    batch._buffer = _Buffer(strict)
    try:
        return _strict(batch)  # the same record again: a failure leaves the batch where it was
    finally:
        batch._buffer = strict


class _Buffer(bytearray):
    """The bytes of a batch; a part of it knows how to be decoded whatever it holds."""

    def __getitem__(self, where: Any) -> Any:
        part = super().__getitem__(where)
        return _Name(part) if isinstance(part, bytearray) else part


class _Name(bytearray):
    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)
