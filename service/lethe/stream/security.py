"""Validates the options of kafka-python that a user gives for the connection, such as TLS and SASL.

They are a JSON object. Names and types are those of kafka-python's defaults. Options that Lethe sets itself,
and those that need a Python object, are rejected by name. No message quotes a value, which may be a secret.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from lethe.errors import InvalidSetting
from lethe.files.bounded_json import read_json

__all__ = ["TLS_FILES", "Option", "check_options", "check_security", "client_security", "read_security"]

Option = str | int | bool

INSTEAD: Final = {
    "api_version": "stream.api_version",
    "auto_offset_reset": "stream.start",
    "bootstrap_servers": "stream.bootstrap_servers",
    "client_id": "stream.group and stream.rank, of which it is made",
    "enable_auto_commit": "a checkpoint, which holds how far learning is",
    "group_id": "stream.group",
    "isolation_level": "stream.isolation",
    "max_partition_fetch_bytes": "stream.fetch_bytes",
    "metadata_max_age_ms": "stream.growth_seconds",
}
"""Lethe's settings for options that it sets itself."""
IN_PYTHON: Final = frozenset(
    {
        "kafka_client",
        "metric_reporters",
        "sasl_oauth_token_provider",
        "selector",
        "socket_options",
        "ssl_context",
    }
)
"""Options whose values are Python objects."""
OURS: Final = frozenset({*INSTEAD, "bootstrap_timeout_ms", "request_timeout_ms"})
"""Options that Lethe sets itself."""
LARGEST: Final = 2**31 - 1
PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
TLS_FILES: Final = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile")
WITH_PASSWORD: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
MECHANISMS: Final = (*WITH_PASSWORD, "GSSAPI", "AWS_MSK_IAM")
"""Those of kafka-python without OAUTHBEARER, which needs a Python object."""


def read_security(text: str) -> dict[str, Option]:
    """Return the options in ``text``. Raises InvalidSetting, which names the option but quotes no value."""
    try:
        given = read_json(text)
    except ValueError:
        raise _invalid("is not JSON") from None
    return check_security(given)


def check_security(given: object) -> dict[str, Option]:
    """Return the options in the types of kafka-python, except for values @FILE; raises as `read_security`."""
    if not isinstance(given, Mapping):
        raise _invalid("is not a JSON object")
    return {name: _typed(name, value) for name, value in given.items()}


def client_security(security: Mapping[str, Option]) -> dict[str, Option]:
    """Return the options with every value @FILE read from that file. Raises as `read_security`."""
    return {
        name: _typed(name, _from_file(name, value)) if _is_file(value) else _typed(name, value)
        for name, value in security.items()
    }


def check_options(options: Mapping[str, Any]) -> None:
    """Raise InvalidSetting for options of a client with which kafka-python would fail without naming one."""
    protocol = options.get("security_protocol", "PLAINTEXT")
    if protocol not in PROTOCOLS:
        raise _invalid(f"security_protocol: {protocol!r} is none of {', '.join(PROTOCOLS)}")
    for name in TLS_FILES:
        path = options.get(name)
        if path is not None:
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise _invalid(f"{name}: {path} cannot be read: {error.strerror}") from error
    if not protocol.startswith("SASL"):
        return
    if not options.get("sasl_mechanism"):
        raise _invalid(f"sasl_mechanism: is missing, and {protocol} needs it")
    if options["sasl_mechanism"] not in MECHANISMS:
        raise _invalid(f"sasl_mechanism: is none of {', '.join(MECHANISMS)}")
    if options["sasl_mechanism"] in WITH_PASSWORD:
        for name in ("sasl_plain_username", "sasl_plain_password"):
            if not options.get(name):
                raise _invalid(f"{name}: is missing, and {options['sasl_mechanism']} needs it")


@cache
def _defaults() -> dict[str, object]:
    """Return the options that all clients of kafka-python share, with their defaults."""
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer  # not for --help

    clients = [client.DEFAULT_CONFIG for client in (KafkaConsumer, KafkaProducer, KafkaAdminClient)]
    return {name: clients[0][name] for name in set.intersection(*map(set, clients))}


@cache
def _known() -> frozenset[str]:
    """Return the names of the options of any client of kafka-python."""
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

    return frozenset().union(*(c.DEFAULT_CONFIG for c in (KafkaConsumer, KafkaProducer, KafkaAdminClient)))


def _typed(name: object, value: object) -> Option:
    """Return the value of an option in the type of its default; a value @FILE unchanged."""
    if not isinstance(name, str) or name not in _known():
        raise _invalid(f"{_quoted(name)}: kafka-python has no such option")
    if name in INSTEAD:
        raise _invalid(f"{name}: Lethe sets it itself; use {INSTEAD[name]}")
    if name in IN_PYTHON:
        raise _invalid(f"{name}: cannot be given as JSON")
    if name in OURS or name not in _defaults():
        raise _invalid(f"{name}: Lethe sets it itself")
    if _is_file(value):
        return _text(name, value)
    default = _defaults()[name]
    if isinstance(default, bool):
        return _switch(name, value)
    if isinstance(default, int) or name.endswith("_bytes"):
        return _number(name, value)
    return _text(name, value)


def _switch(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise _invalid(f"{name}: must be true or false")


def _number(name: str, value: object) -> int:
    least = 0 if "backoff" in name else 1
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST:
        raise _invalid(f"{name}: must be a whole number from {least} to {LARGEST}")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _invalid(f"{name}: must be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _invalid(f"{name}: cannot be encoded as UTF-8") from None
    if "\0" in value:
        raise _invalid(f"{name}: must not contain a zero byte")
    return value


def _is_file(value: object) -> bool:
    return isinstance(value, str) and value.startswith("@")


def _from_file(name: str, value: object) -> str:
    path = str(value)[1:]
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise _invalid(f"{name}: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _invalid(f"{name}: {path} cannot be read: it is not text in UTF-8") from error


def _quoted(name: object) -> str:
    return repr(name if isinstance(name, str) and len(name) < 80 else str(name)[:80])


def _invalid(why: str) -> InvalidSetting:
    return InvalidSetting(f"security (LETHE_STREAM__SECURITY) {why}")
