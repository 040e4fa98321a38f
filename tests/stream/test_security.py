"""Options for kafka-python: converted to its types, or refused by name in one line."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from lethe.errors import InvalidSetting
from lethe.settings import Settings
from lethe.stream.connection import Cluster, open_client
from lethe.stream.security import INSTEAD, Option, client_security, read_security
from lethe.stream.settings import StreamSettings

CLIENTS = (KafkaConsumer, KafkaProducer, KafkaAdminClient)
NAMES = sorted(set().union(*(client.DEFAULT_CONFIG for client in CLIENTS)))


@pytest.mark.parametrize(
    ("name", "given", "applied"),
    [
        ("connections_max_idle_ms", 60000, 60000),
        ("connections_max_idle_ms", "60000", 60000),
        ("retry_backoff_ms", 0, 0),
        ("receive_buffer_bytes", "4096", 4096),
        ("ssl_check_hostname", False, False),
        ("ssl_check_hostname", "False", False),
        ("ssl_check_hostname", "true", True),
        ("sasl_plain_username", "charon", "charon"),
        ("sasl_plain_password", "12345", "12345"),
    ],
)
def test_an_option_gets_the_type_of_its_default(name: str, given: object, applied: Option) -> None:
    text = json.dumps({name: given})
    assert read_security(text) == {name: applied}
    stream = StreamSettings.model_validate({"security": text})
    assert Cluster.of(stream).options[name] == applied
    assert type(Cluster.of(stream).options[name]) is type(applied)
    assert Cluster("kafka:9092", security=read_security(text)).options[name] == applied


def test_an_option_in_a_file_gets_its_type_too(tmp_path: Path) -> None:
    (tmp_path / "idle").write_text("60000\n")
    security = read_security(json.dumps({"connections_max_idle_ms": f"@{tmp_path / 'idle'}"}))
    assert client_security(security) == {"connections_max_idle_ms": 60000}
    (tmp_path / "idle").write_text("long\n")
    with pytest.raises(InvalidSetting, match=r"connections_max_idle_ms: must be a whole number"):
        client_security(security)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        *[(name, "1", f"{name}: Lethe sets it itself; use ") for name in INSTEAD],
        ("request_timeout_ms", "60000", "request_timeout_ms: Lethe sets it itself"),
        ("max_poll_records", 5, "max_poll_records: Lethe sets it itself"),
        ("acks", "all", "acks: Lethe sets it itself"),
        ("ssl_context", "x", "ssl_context: cannot be given as JSON"),
        ("sasl_pasword", "x", "'sasl_pasword': kafka-python has no such option"),
        ("retry_backoff_ms", -1, "retry_backoff_ms: must be a whole number from 0"),
        ("retry_backoff_ms", True, "retry_backoff_ms: must be a whole number"),
        ("retry_backoff_ms", 2.5, "retry_backoff_ms: must be a whole number"),
        ("ssl_check_hostname", "no", "ssl_check_hostname: must be true or false"),
        ("sasl_plain_password", 12345, "sasl_plain_password: must be text"),
        ("ssl_cafile", "a\0b", "ssl_cafile: must not contain a zero byte"),
        ("ssl_cafile", "\ud800", "ssl_cafile: cannot be encoded as UTF-8"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name_at_the_start(name: str, value: object, said: str) -> None:
    text = json.dumps({name: value})
    with pytest.raises(InvalidSetting) as by_producer:
        read_security(text)
    with pytest.raises(InvalidSetting) as by_service:
        Settings.read({"stream": {"security": text}})
    for refused in (by_producer, by_service):
        assert said in str(refused.value)
        assert "LETHE_STREAM__SECURITY" in str(refused.value)
        assert "12345" not in str(refused.value)


def test_settings_named_instead_are_settings() -> None:
    named = {name for text in INSTEAD.values() for name in text.replace(",", " ").split() if "." in name}
    assert named <= {f"{section}.{name}" for section, name in Settings.fields()}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["@/nowhere", "@", "true", "1", "0", "SSL", "SASL_SSL", "PLAIN", "GSSAPI", "socks5://x"]
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=3,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), JSON, max_size=4) | JSON)
def test_every_option_is_applied_or_refused_in_one_line(content: object) -> None:
    try:
        options = client_security(read_security(json.dumps(content)))
        refused = ""
    except InvalidSetting as error:
        refused, options = str(error), {}
    if refused:
        assert refused.startswith("security (LETHE_STREAM__SECURITY) ")
        assert len(refused.splitlines()) == 1
        return
    for client in CLIENTS:
        with pytest.raises((InvalidSetting, KafkaError)) as failed:  # no server listens there
            open_client(client, bootstrap_servers="127.0.0.1:1", bootstrap_timeout_ms=20, **options)
        if isinstance(failed.value, InvalidSetting):
            assert len(str(failed.value).splitlines()) == 1
