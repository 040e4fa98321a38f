"""The learner of docs/pages/how-to/write-learner.md, installed as it says, passes every check and runs."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from lethe.learners.base import Learner
from lethe.learners.checks.contract import checks_for
from lethe.learners.checks.helpers import batch
from lethe.learners.registry import find
from lethe.observability.result import RunResult
from lethe.stream.embedded_broker import EmbeddedBroker
from lethe.wire import Sample, encode
from tests.support.brokers import of_embedded
from tests.support.services import service
from tests.support.streams import send

PAGE = Path(__file__).parents[2] / "docs" / "pages" / "how-to" / "write-learner.md"
MOST_LINES = 40
"""The page promises a short one."""


def fenced(kind: str, beginning: str) -> str:
    """Return the first block of this kind after ``beginning``, the beginning of a line of the page."""
    found = re.search(
        rf"^{re.escape(beginning)}.*?^```{kind}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    assert found is not None, beginning
    return found[1]


@pytest.fixture
def styx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Learner]:
    """Install the example: its module and the metadata that pip writes from its pyproject.toml."""
    project = tomllib.loads(fenced("toml", "An entry point makes it known."))["project"]
    about = tmp_path / f"{project['name']}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1\n")
    offered = [f"{name} = {target}" for name, target in project["entry-points"]["lethe.learners"].items()]
    (about / "entry_points.txt").write_text("\n".join(["[lethe.learners]", *offered]))
    (tmp_path / "styx.py").write_text(fenced("python", "A learner is one class"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "styx", raising=False)
    return find("styx")


def test_the_example_is_short_and_passes_every_check(styx: type[Learner]) -> None:
    assert len(fenced("python", "A learner is one class").splitlines()) <= MOST_LINES
    for check in checks_for(styx):
        check(styx)


@pytest.mark.usefixtures("styx")
def test_the_example_learns_from_a_broker(
    embedded_broker: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    broker = of_embedded(embedded_broker)
    for name in (topic, f"{topic}.dead-letters"):
        broker.create_topic(name, 1)
    x_BCHW, y_B = batch(320, seed=0)
    images = zip(x_BCHW.numpy(), y_B.tolist(), strict=True)
    send(broker, topic, [(0, *encode(Sample(pixels, label))) for pixels, label in images])
    shape = {"SAMPLE__HEIGHT": 8, "SAMPLE__WIDTH": 8, "SAMPLE__CLASSES": 4}
    settings = {"LEARNER__NAME": "styx", "STREAM__STOP_AFTER": 320, "BATCH__SIZE": 16, **shape}
    with service(broker, topic, tmp_path, **settings) as run:
        run.process.wait(60)
        result = RunResult.read(run.report / "run.json")
    assert (result.learner, result.samples.learned) == ("styx", 320)
    assert result.prequential_accuracy is not None
    assert result.prequential_accuracy > 0.5
