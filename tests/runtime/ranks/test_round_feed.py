"""What rank 0 does between its own batch of a round and the answers of the others."""

from types import SimpleNamespace
from typing import Any

import pytest

from lethe.errors import BrokerUnavailable
from lethe.privacy.controls import load_controls
from lethe.runtime.ranks.progress import Progress
from lethe.runtime.ranks.reading import OtherMessage, Reading
from lethe.runtime.ranks.round_feed import RoundFeed
from lethe.runtime.ranks.round_times import RoundTimes
from lethe.settings import Settings
from lethe.stream.purge import Sharing
from lethe.stream.source import Purged

SETTINGS = Settings.model_validate({"stream": {"topic": "images"}})


class Scripted(Reading):
    """Has no reader process, and nothing but these to say."""

    def __init__(self, *script: OtherMessage | Exception) -> None:
        super().__init__(SETTINGS, 0, 2, load_controls(SETTINGS.privacy), None)
        self._script = list(script)

    def wait(self, timeout: float) -> OtherMessage | None:
        said = self._script.pop(0) if self._script else None
        if isinstance(said, Exception):
            raise said
        return said


def feed_of(reading: Reading) -> RoundFeed:
    group: Any = SimpleNamespace(size=2)
    learner: Any = SimpleNamespace()
    progress, times = Progress(SETTINGS.stream, 2, None, None), RoundTimes(2)
    sharing = Sharing("digits", None, purges=False)
    return RoundFeed(
        group,
        learner,
        reading,
        SETTINGS,
        progress,
        times,
        sharing,
        None,
        None,
        detects=False,
        paused=False,
    )


def test_a_message_of_the_reader_in_mid_round_is_passed_on_afterwards() -> None:
    purged = Purged({0: 10})
    feed = feed_of(Scripted(purged))
    feed.prepare()
    assert feed.next(0) is purged


def test_an_error_of_the_reader_in_mid_round_is_raised_afterwards() -> None:
    feed = feed_of(Scripted(BrokerUnavailable("nobody answers")))
    feed.prepare()
    with pytest.raises(BrokerUnavailable, match="nobody answers"):
        feed.next(0)
