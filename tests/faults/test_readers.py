"""Several decoders: what is learned, and what is left of a service that is killed, is as with one reader."""

import os
import signal
from pathlib import Path
from typing import Final

import pytest

from lethe.experiments.chaos.kill_loop import run_with_kills
from lethe.experiments.chaos.kill_plan import plan_kills
from lethe.experiments.chaos.outcome import Outcome
from lethe.settings import Settings
from lethe.wire import PNG, RAW, Sample, encode
from tests.support.faults.checkpoint_steps import HELD_AT, Held, KillAt
from tests.support.faults.ranks import team
from tests.support.faults.readers import alive, reading, spawning
from tests.support.faults.services import FAILED, Forked, Stage, running
from tests.support.faults.topics import Fill, Outgoing, images
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

COUNT: Final = 900
EVERY: Final = 25
"""One record in so many is malformed, each time in another way."""


@pytest.fixture(scope="module")
def pictures(fill: Fill) -> Stage:
    """A topic of PNG images, with a few raw ones and malformed records among them."""
    x_NCHW, y_N = images(COUNT, seed=7)
    made: list[Outgoing] = []
    for number, (x, y) in enumerate(zip(x_NCHW, y_N, strict=True)):
        value, headers = encode(Sample(x, int(y), "a"), PNG if number % 10 else RAW)
        if number % EVERY != 3:
            made.append((value, headers))
            continue
        malformed = [(value[:-5], headers), (None, headers), (value, headers[:1]), (b"no picture", headers)]
        made.append(malformed[number // EVERY % len(malformed)])
    return fill("pictures", made)


def settings(stage: Stage, readers: int, folder: Path, slots: int = 16) -> Settings:
    return stage.settings("finetune", folder, batch={"size": 64, "readers": readers, "slots": slots})


def outcome(given: Settings) -> Outcome:
    """Let a service learn the rest of the topic, and return what it has learned."""
    assert given.checkpoint.folder is not None
    with running(given) as service:
        assert service.status() == 0, service.log
    return Outcome.of(given.checkpoint.folder)


@pytest.fixture(scope="module")
def alone(pictures: Stage, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The outcome with one reader."""
    found = outcome(settings(pictures, 1, tmp_path_factory.mktemp("alone") / "state"))
    assert (found.learned, found.dead) == (COUNT - COUNT // EVERY, COUNT // EVERY)
    return found


def test_three_readers_learn_the_same_records_in_the_same_order(
    pictures: Stage, alone: Outcome, tmp_path: Path
) -> None:
    assert outcome(settings(pictures, 3, tmp_path / "state")) == alone


def test_a_service_that_is_killed_continues_with_another_number_of_readers(
    pictures: Stage, alone: Outcome, tmp_path: Path
) -> None:
    for readers, left in ((2, 2), (3, 1)):
        given = settings(pictures, readers, tmp_path / "state")
        with running(given, KillAt("renamed", left=left)) as service:
            assert service.status() == -signal.SIGKILL
    assert outcome(settings(pictures, 2, tmp_path / "state")) == alone


def test_a_decoder_that_is_killed_ends_the_service_loudly_and_loses_nothing(
    pictures: Stage, alone: Outcome, tmp_path: Path
) -> None:
    given = settings(pictures, 2, tmp_path / "state", slots=2)  # so that most is still to be decoded
    with running(given, Held(tmp_path / "go-on"), spawning) as service:
        service.has_learned(HELD_AT)
        *decoders, reader = reading(service.pid)
        assert len(decoders) == 2
        os.kill(decoders[0], signal.SIGKILL)
        (tmp_path / "go-on").touch()
        assert service.status() == FAILED
        assert "a decoder process ended with status -9" in service.log
    until(lambda: not any(alive(pid) for pid in (*decoders, reader)), "all that read are gone")
    assert outcome(given) == alone


@pytest.mark.long
def test_the_decoders_of_a_killed_service_end_by_themselves(pictures: Stage, tmp_path: Path) -> None:
    given = settings(pictures, 2, tmp_path / "state")
    with running(given, Held(tmp_path / "go-on"), spawning) as service:
        service.has_learned(HELD_AT)
        orphans = reading(service.pid)
        assert len(orphans) == 3
        service.kill()
    until(lambda: not any(alive(pid) for pid in orphans), "all that read are gone")


@pytest.mark.long
@pytest.mark.parametrize("readers", [2, 3])
def test_killed_at_random_instants(readers: int, pictures: Stage, alone: Outcome, tmp_path: Path) -> None:
    given = settings(pictures, readers, tmp_path / "state")
    run_with_kills(lambda: Forked(given), plan_kills(25, pictures.total, 0.6, seed=readers))
    assert Outcome.of(tmp_path / "state") == alone


@pytest.mark.long
def test_each_rank_has_decoders_of_its_own(pictures: Stage, tmp_path: Path) -> None:
    found = []
    for readers in (1, 2):
        folder = tmp_path / str(readers)
        batch = {"size": 64, "readers": readers}
        given = pictures.settings("ridge", folder / "state", batch=batch)
        with team(given, 2, folder / "logs") as started:
            assert started.statuses() == [0, 0], started.log
        found.append(Outcome.of(folder / "state"))
    assert found[0] == found[1]
    assert found[0].learned == COUNT - COUNT // EVERY
