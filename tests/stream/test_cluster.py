"""A cluster's addresses and options are checked before anything is connected."""

from pathlib import Path

import pytest

from lethe.errors import InvalidSetting
from lethe.stream.connection import Cluster
from lethe.stream.security import read_security


@pytest.mark.parametrize(
    "servers", ["127.0.0.1:9092", "a:1,b.c-d_e:65535", "[::1]:9092", "kafka-0.kafka:9092, kafka-1.kafka:9092"]
)
def test_one_or_several_addresses_are_taken(servers: str) -> None:
    assert Cluster(servers).options["bootstrap_servers"] == [part.strip() for part in servers.split(",")]


@pytest.mark.parametrize(
    "servers",
    ["", "kafka", "kafka:", ":9092", "kafka:port", "kafka:0", "kafka:65536", "a:1,,b:2", "::1:9092"],
)
def test_an_address_that_is_none_is_refused_by_name(servers: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^bootstrap-servers: .* is not HOST:PORT$"):
        Cluster(servers)


def test_options_are_handed_on_a_secret_from_its_file_and_a_switch_as_a_bool(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("obol\n")
    security = read_security(
        f'{{"sasl_plain_password": "@{tmp_path / "password"}", "security_protocol": "SASL_SSL",'
        ' "ssl_check_hostname": "false"}'
    )
    cluster = Cluster("kafka:9092", security=security)
    assert cluster.options["sasl_plain_password"] == "obol"
    assert cluster.options["security_protocol"] == "SASL_SSL"
    assert cluster.options["ssl_check_hostname"] is False
    assert (
        Cluster("kafka:9092", security={"ssl_check_hostname": "true"}).options["ssl_check_hostname"] is True
    )


def test_a_secret_is_not_printed() -> None:
    assert "obol" not in repr(Cluster("kafka:9092", security={"sasl_plain_password": "obol"}))


def test_a_secrets_missing_file_is_named_with_its_option() -> None:
    with pytest.raises(InvalidSetting, match=r"security .* ssl_password: /nowhere/password cannot be read"):
        Cluster("kafka:9092", security={"ssl_password": "@/nowhere/password"})


def test_a_switch_is_true_or_false() -> None:
    with pytest.raises(InvalidSetting, match="ssl_check_hostname: must be true or false"):
        Cluster("kafka:9092", security={"ssl_check_hostname": "no"})


@pytest.mark.parametrize("text", ["", "{torn", "[]", '{"sasl_plain_password": 7}', '"obol"'])
def test_anything_but_a_json_object_of_options_is_refused(text: str) -> None:
    with pytest.raises(
        InvalidSetting,
        match=r"^security \(LETHE_STREAM__SECURITY\) (is not (a JSON object|JSON)|\w+: must be text)$",
    ):
        read_security(text)
