"""Batches of a rank whose features are computed while it would wait for other ranks."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from lethe.ingest.feed import Batch
from lethe.learners.base import LearnerContext
from lethe.learners.capabilities import Pools
from lethe.learners.registry import create
from lethe.privacy.controls import load_controls
from lethe.runtime.ranks.notes import Pause
from lethe.runtime.ranks.reading import Reading
from lethe.settings import Settings
from lethe.stream.source import Position
from tests.support.feeds import LAYOUT, ScriptedFeed, segment
from tests.support.pools import together

SIZE = 8


@pytest.fixture
def feed() -> Iterator[ScriptedFeed]:
    feed = ScriptedFeed(segment("a", 3 * SIZE), SIZE)
    yield feed
    feed.close()


def reading_of(batch: Batch) -> Reading:
    settings = Settings.model_validate({"stream": {"topic": "images"}})
    reading = Reading(settings, 1, 2, load_controls(settings.privacy), None)
    reading.batch = batch
    return reading


def next_of(feed: ScriptedFeed) -> Batch:
    batch = feed.next(0)
    assert isinstance(batch, Batch)
    return batch


def joined(name: str) -> Any:
    """The learner of the only rank."""
    learner = create(name, LearnerContext(LAYOUT, options={} if name == "finetune" else {"waves": 8}))
    assert isinstance(learner, Pools)
    together([learner], lambda rank, learner: None)
    return learner


@pytest.mark.parametrize("name", ["ridge", "slda", "ncm", "experts"])
def test_a_prepared_batch_is_learned_to_the_same_bits(name: str, feed: ScriptedFeed) -> None:
    prepared, plain = joined(name), joined(name)
    for _ in range(2):
        batch = next_of(feed)
        plain.learn(torch.from_numpy(batch.x_BCHW), torch.from_numpy(batch.y_B))
        reading = reading_of(batch)
        assert reading.prepare(prepared) > 0
        assert reading.prepare(prepared) == 0, "a batch is prepared once"
        if name != "experts":
            batch.x_BCHW[...] = 0  # its features are not computed again
        learned = reading.learn(prepared)
        assert learned is not None
        assert learned.learned is not None
        assert learned.learned.samples == SIZE
    assert prepared.state().to_bytes() == plain.state().to_bytes()


def test_nothing_is_prepared_of_what_has_no_fixed_features(feed: ScriptedFeed) -> None:
    batch = next_of(feed)
    assert reading_of(batch).prepare(joined("finetune")) == 0
    assert batch.features_BD is None


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda reading, learner: reading.learn(learner), id="learned"),
        pytest.param(lambda reading, _: reading.pause(Pause(Position({0: 0}, 0), (0, 0))), id="paused"),
        pytest.param(lambda reading, _: reading.close(), id="closed"),
    ],
)
def test_what_is_prepared_is_overwritten_when_the_batch_is(
    end: Callable[[Reading, Any], object], feed: ScriptedFeed
) -> None:
    learner, batch = joined("ridge"), next_of(feed)
    reading = reading_of(batch)
    reading.prepare(learner)
    features_BD = batch.features_BD
    assert features_BD is not None
    assert features_BD.any()
    end(reading, learner)
    assert not features_BD.any()
