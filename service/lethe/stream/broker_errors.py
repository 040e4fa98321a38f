"""The messages of errors of a Kafka cluster: maps kafka-python's errors to Lethe's, and says what to do.

kafka-python's own texts can be None for a timeout, a class's name alone, a whole request with its response,
or an error within an error. If no client can connect, it only reports a timeout; the reason is found here.
"""

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from kafka.errors import (
    AuthorizationError,
    BrokerResponseError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RetriableError,
    SaslAuthenticationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedSaslMechanismError,
)

from lethe.errors import BrokerUnavailable, InvalidSetting, PositionLost
from lethe.stream.addresses import addresses_in
from lethe.stream.kafka_patches import ConnectionFailure, connection_failures
from lethe.stream.security import TLS_FILES
from lethe.stream.settings import StreamSettings

__all__ = [
    "connection_error",
    "describe_error",
    "describe_timeout",
    "kafka_errors",
    "missing_topic",
    "rejected_option",
    "root_cause",
    "unreachable_listener",
]

RECENT_SECONDS: Final = 30.0
"""Failed connections of this age and younger explain a later timeout."""
NO_TLS_ERRORS: Final = ("UNEXPECTED_EOF", "WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
"""In TLS errors of a listener without TLS."""
INVALID_LENGTH: Final = re.compile(r"Invalid frame length: (\d+)")
TLS_ALERT: Final = 0x1503
"""The first bytes of a TLS alert, which kafka-python reads as the length of a response."""
DUMP: Final = re.compile(r"\w+(Request|Response)\w*\(")
"""The beginning of a printed object of the protocol."""
NUMBER: Final = re.compile(r"(\d+) E[A-Z]+")
"""A system error, such as 111 ECONNREFUSED."""
EMPTY: Final = frozenset({"", "None", "()", "Future not done"})
LONGEST: Final = 300
"""Maximum length of a text of kafka-python in a message, in characters."""


@contextmanager
def kafka_errors(settings: StreamSettings, topic: str = "") -> Iterator[None]:
    """Map kafka-python's errors to Lethe's; ``topic`` is by default the one that is learned from."""
    cluster = f"Kafka at {settings.bootstrap_servers}"
    try:
        yield
    except UnknownTopicOrPartitionError as error:
        raise BrokerUnavailable(missing_topic(settings, topic or settings.topic)) from error
    except (OffsetOutOfRangeError, LogTruncationError, NoOffsetForPartitionError) as error:
        raise PositionLost(f"topic {settings.topic}: {describe_error(error)}") from error
    except AuthorizationError as error:
        raise InvalidSetting(
            f"{cluster} does not give this user the right to use topic {topic or settings.topic} "
            f"({describe_error(error)}): grant it that right, or name another user in security "
            "(LETHE_STREAM__SECURITY)"
        ) from error
    except (RetriableError, KafkaConnectionError) as error:
        servers = addresses_in(settings.bootstrap_servers)
        why = unreachable_listener(servers) or f"does not answer ({describe_timeout(error, servers)})"
        raise BrokerUnavailable(f"{cluster} {why}") from error
    except KafkaError as error:
        raise InvalidSetting(f"{cluster}: {describe_error(error)}") from error


def missing_topic(settings: StreamSettings, topic: str) -> str:
    """Return the message of an error about a topic that does not exist."""
    return f"topic {topic} does not exist at {settings.bootstrap_servers}; create it, or correct its name"


def rejected_option(connections: Sequence[Any], options: Mapping[str, Any]) -> InvalidSetting | None:
    """Return an error naming the option that one of ``connections`` failed for, or None if unknown."""
    errors = (_option_error(connection.init_future.exception, options) for connection in connections)
    return next((error for error in errors if error is not None), None)


def _option_error(error: BaseException | None, options: Mapping[str, Any]) -> InvalidSetting | None:
    text = _message(error)
    if isinstance(error, SaslAuthenticationFailedError):
        return _invalid("sasl_plain_username, sasl_plain_password", f"the cluster rejects them: {text}")
    if isinstance(error, UnsupportedSaslMechanismError):
        wanted = options.get("sasl_mechanism")
        return _invalid("sasl_mechanism", f"the cluster does not offer {wanted}: {text}")
    if (length := INVALID_LENGTH.search(text)) and int(length[1]) >> 16 == TLS_ALERT:
        why = f"the cluster answers in TLS, and {_protocol(options)} is without TLS"
        return _invalid("security_protocol", why)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        if "mismatch" in text:
            return _invalid("ssl_check_hostname", f"the cluster's certificate is for another name: {text}")
        known = options.get("ssl_cafile") or "this system"
        return _invalid("ssl_cafile", f"the cluster's certificate is unknown to {known}: {text}")
    if isinstance(error, OSError) and not isinstance(error, KafkaError):
        return _invalid("/".join(TLS_FILES), f"TLS cannot use one of these: {text}")
    return None


def connection_error(connections: Sequence[Any], options: Mapping[str, Any]) -> KafkaConnectionError:
    """Return why the last of ``connections`` failed, if trying again may help."""
    last = connections[-1]
    error = last.init_future.exception
    reason = "the connection was closed" if error is None else _message(error)
    if reason in {"", "None"}:
        reason = "there was no answer in time"
    answered = last.broker_version_data is not None and error is not None
    if not answered and _closed(error):
        reason += f", as by a listener that does not speak security_protocol {_protocol(options)}"
    return KafkaConnectionError(reason)


def unreachable_listener(servers: Sequence[str]) -> str:
    """Return which address that the cluster names itself could not be connected to lately, and why.

    ``servers`` are its bootstrap servers. Empty if there is no such address.
    """
    recent = [f for f in connection_failures(servers) if f.address not in servers and _is_recent(f)]
    if not recent:
        return ""
    last = max(recent, key=lambda failure: failure.at)
    return (
        f"names {last.address} as its own address (advertised.listeners), which cannot be reached: "
        f"{describe_error(last.error)}"
    )


def describe_timeout(error: BaseException, servers: Sequence[str]) -> str:
    """Return the message of ``error``; for a timeout, why no connection to ``servers`` could be made."""
    if isinstance(error, KafkaTimeoutError):
        failed = {failure.address: failure for failure in connection_failures(servers)}
        for server in servers:
            if server in failed and _is_recent(failed[server]):
                return f"no connection to {server}: {describe_error(failed[server].error)}"
    return describe_error(error)


def describe_error(error: BaseException) -> str:
    """Return the class of ``error`` and its message, in one short sentence, which is never empty.

    >>> from kafka.errors import CommitFailedError, UnknownMemberIdError
    >>> describe_error(KafkaTimeoutError(None))
    'KafkaTimeoutError: there was no answer in time'
    >>> describe_error(KafkaError("FetchResponse(version=12, error_code=3)"))
    'KafkaError'
    >>> describe_error(OSError(111, "Connection refused"))
    'ConnectionRefusedError: Connection refused'
    """
    error = root_cause(error)
    name, text = type(error).__name__, _readable(error)
    if text in EMPTY or text == name or DUMP.search(text):
        text = _known(error)
    if text and isinstance(error, KafkaConnectionError):
        return text[:LONGEST]
    return f"{name}: {text[:LONGEST]}" if text else name


def root_cause(error: BaseException) -> BaseException:
    """Return the innermost error that kafka-python has wrapped in ``error``, or ``error`` itself."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    return error


def _readable(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = _message(error)
    if number := NUMBER.fullmatch(text):
        return os.strerror(int(number[1]))
    return " ".join(text.split())


def _message(error: BaseException | None) -> str:
    """Return the message of an error without its class's name, which kafka-python puts before it."""
    return str(error.args[0] if isinstance(error, KafkaError) and error.args else error)


def _known(error: BaseException) -> str:
    if isinstance(error, KafkaTimeoutError):
        return "there was no answer in time"
    if isinstance(error, BrokerResponseError):
        return " ".join((type(error).description or "").split())
    return ""


def _is_recent(failure: ConnectionFailure) -> bool:
    return time.monotonic() - failure.at < RECENT_SECONDS


def _closed(error: BaseException | None) -> bool:
    return error is None or any(word in str(error) for word in ("disconnected", *NO_TLS_ERRORS))


def _protocol(options: Mapping[str, Any]) -> str:
    return str(options.get("security_protocol", "PLAINTEXT"))


def _invalid(option: str, why: str) -> InvalidSetting:
    return InvalidSetting(f"security (LETHE_STREAM__SECURITY) {option}: {why}")
