"""A model behind TLS is asked only if the authority that signed its certificate is trusted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lethe.errors import TargetUnavailable
from lethe.runtime.watch.targets.http import HttpOptions, HttpTarget
from tests.support.certificates import Authority
from tests.support.watched import Model, model_server, probes_of, serving

pytestmark = pytest.mark.needs("openssl")

(PROBE,) = probes_of("a", images=6)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authorities") / "own")


@pytest.fixture(scope="module")
def model(own: Authority) -> Iterator[tuple[Model, str]]:
    model = Model("a")
    with serving(model_server(model), **own.server()) as address:
        yield model, f"{address}/v2/models/digits/infer"


def target(address: str, ca_file: Path | None) -> HttpTarget:
    return HttpTarget(address, "kserve-v2", HttpOptions(retries=0, ca_file=ca_file))


def test_the_certificate_of_an_own_authority_is_accepted_with_its_file(
    own: Authority, model: tuple[Model, str]
) -> None:
    asked = target(model[1], own.certificate)
    assert asked.ask(PROBE.x_NCHW).labels_B.tolist() == PROBE.y_N.tolist()
    assert asked.address.startswith("https://")
    asked.close()


def test_it_is_refused_without(model: tuple[Model, str]) -> None:
    served, address = model
    before = served.requests
    asked = target(address, None)
    with pytest.raises(TargetUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        asked.ask(PROBE.x_NCHW)
    asked.close()
    assert served.requests == before, "neither images nor a token were sent"


def test_another_authority_of_the_same_name_does_not_make_it_good(
    model: tuple[Model, str], tmp_path: Path
) -> None:
    other = Authority.create(tmp_path / "own")
    asked = target(model[1], other.certificate)
    with pytest.raises(TargetUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        asked.ask(PROBE.x_NCHW)
    asked.close()


def test_a_certificate_for_another_address_is_refused(own: Authority) -> None:
    with serving(model_server(Model("a")), **own.server("127.0.0.2")) as address:
        asked = target(f"{address}/v2/models/digits/infer", own.certificate)
        with pytest.raises(TargetUnavailable, match="IP address mismatch"):
            asked.ask(PROBE.x_NCHW)
        asked.close()
