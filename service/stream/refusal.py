"""Why a Kafka cluster did not let a client in: kafka-python says only that it gave up."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from kafka.errors import (
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)

from service.errors import InvalidSetting

__all__ = ["check_options", "refusal", "trouble"]

PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
FILES: Final = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile")
WITH_PASSWORD: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
NO_TLS: Final = ("UNEXPECTED_EOF", "WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
"""What TLS says of a listener that does not speak it."""
INVALID_LENGTH: Final = re.compile(r"Invalid frame length: (\d+)")
TLS_ALERT: Final = 0x1503
"""With these bytes an answer begins that is none of Kafka's, where it has the length of its own."""


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what kafka-python would come to grief over. Raises InvalidSetting, naming the option."""
    protocol = _protocol(options)
    if protocol not in PROTOCOLS:
        raise _refused("security_protocol", f"{protocol!r} is none of {', '.join(PROTOCOLS)}")
    for name in FILES:
        path = options.get(name)
        if path is not None:
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise _refused(name, f"{path} cannot be read: {error.strerror}") from error
    if not protocol.startswith("SASL"):
        return
    if not options.get("sasl_mechanism"):
        raise _refused("sasl_mechanism", f"is missing, and {protocol} needs it")
    if options["sasl_mechanism"] in WITH_PASSWORD:
        for name in ("sasl_plain_username", "sasl_plain_password"):
            if not options.get(name):
                raise _refused(name, f"is missing, and {options['sasl_mechanism']} needs it")


def refusal(connections: Sequence[Any], options: Mapping[str, Any]) -> InvalidSetting | None:
    """Return which of ``options`` one of kafka-python's ``connections`` failed for, if that is sure."""
    blamed = (_blame(connection.init_future.exception, options) for connection in connections)
    return next((error for error in blamed if error is not None), None)


def trouble(connections: Sequence[Any], options: Mapping[str, Any]) -> KafkaConnectionError:
    """Return what became of the last of ``connections``, where trying again may help."""
    last = connections[-1]
    error = last.init_future.exception
    reason = "the connection was closed" if error is None else _said(error)
    answered = last.broker_version_data is not None and error is not None
    if not answered and _closed(error):
        reason += f", as by a listener that does not speak security_protocol {_protocol(options)}"
    return KafkaConnectionError(reason)


def _closed(error: BaseException | None) -> bool:
    return error is None or any(word in str(error) for word in ("disconnected", *NO_TLS))


def _blame(error: BaseException | None, options: Mapping[str, Any]) -> InvalidSetting | None:
    text = _said(error)
    if isinstance(error, SaslAuthenticationFailedError):
        return _refused("sasl_plain_username, sasl_plain_password", f"the cluster does not take them: {text}")
    if isinstance(error, UnsupportedSaslMechanismError):
        wanted = options.get("sasl_mechanism")
        return _refused("sasl_mechanism", f"the cluster does not offer {wanted}: {text}")
    if (length := INVALID_LENGTH.search(text)) and int(length[1]) >> 16 == TLS_ALERT:
        why = f"the cluster answers in TLS, which {_protocol(options)} is without"
        return _refused("security_protocol", why)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        if "mismatch" in text:
            return _refused("ssl_check_hostname", f"the cluster's certificate is for another name: {text}")
        known = options.get("ssl_cafile") or "this system"
        return _refused("ssl_cafile", f"the cluster's certificate is unknown to {known}: {text}")
    if isinstance(error, OSError) and not isinstance(error, KafkaError):
        return _refused("/".join(FILES), f"TLS cannot use one of these: {text}")
    return None


def _said(error: BaseException | None) -> str:
    """What an error says, without its class's name, which kafka-python puts before it."""
    return str(error.args[0] if isinstance(error, KafkaError) and error.args else error)


def _protocol(options: Mapping[str, Any]) -> str:
    return str(options.get("security_protocol", "PLAINTEXT"))


def _refused(option: str, why: str) -> InvalidSetting:
    return InvalidSetting(f"security (LETHE_STREAM__SECURITY) {option}: {why}")
