"""The loop that watches: evaluations as in a run, visits, drops, unknown models, restarts."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lethe.errors import InvalidFile, InvalidSetting, TargetUnavailable, UnexpectedAnswer
from lethe.evaluation.history import History
from lethe.events import (
    DropFound,
    Evaluated,
    Event,
    RequestsMade,
    ScoresUpdated,
    SegmentStarted,
    TargetStatus,
)
from lethe.runtime.watch.asking import Asker, Pace
from lethe.runtime.watch.panel import Panel
from lethe.runtime.watch.targets.target import Answers, read_outputs
from lethe.runtime.watch.visits import VisitFile, Visits
from lethe.runtime.watch.watch_state import WatchFolder, WatchState
from lethe.runtime.watch.watcher import Pattern, Watcher
from tests.support.watched import Model, probes_of


class Watched:
    """A watcher of a model in this process, and what it emitted."""

    def __init__(
        self,
        model: Model,
        pattern: Pattern | None = None,
        folder: Path | None = None,
        file: Path | None = None,
        names: str = "ab",
        images: int = 40,
    ) -> None:
        self.model, self.events, self.now = model, list[Event](), 1000.0
        self.announced, self.broken = Visits(), ""
        probes = probes_of(names, images)
        self.folder = WatchFolder(folder)
        hashes = {probe.name: probe.sha256 for probe in probes}
        state = self.folder.load(WatchState(probes=hashes, images=images, seed=0, began=0.0))
        self.history = History.from_json(state.history) if state.history else History([*names])
        self.asker = Asker(self, Pace(None), self.events.append, lambda: False, batch=16)
        self.watcher = Watcher(
            self.asker,
            [Panel(probe, images, 0, 4) for probe in probes],
            self.history,
            state,
            self.folder,
            self.announced,
            VisitFile(file, [*names], state.lines_read),
            self.events.append,
            lambda: False,
            pattern or Pattern(),
            clock=lambda: self.now,
            random=np.random.default_rng(0),
        )

    name = "model"
    address = "here"

    def ask(self, x_BCHW: Any) -> Answers:
        self.model.requests += 1
        if self.model.down:
            raise TargetUnavailable("it is being replaced")
        if self.broken:
            raise UnexpectedAnswer(self.broken)
        return read_outputs(self.model.predict(x_BCHW), x_BCHW.shape, self.model.version)

    def refresh(self) -> str | None:
        return None

    def close(self) -> None:
        pass

    def rounds(self, number: int = 1) -> "Watched":
        for _ in range(number):
            self.watcher.round()
            self.now += 60
        return self

    def emitted(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def latest(self) -> ScoresUpdated:
        updated: ScoresUpdated = self.emitted(ScoresUpdated)[-1]
        return updated


def test_what_the_model_knows_when_watching_begins_is_its_first_visit() -> None:
    watched = Watched(Model("a")).rounds()
    assert watched.history.segments == ["a"]
    assert watched.latest.accuracy == {"a": 1.0, "b": 0.0}
    assert watched.latest.R == ((1.0, 0.0),)
    assert watched.latest.readings["a"].by_class == (1.0,) * 4
    assert watched.latest.readings["a"].ece == pytest.approx(0.3)


def test_a_new_version_is_a_visit_named_after_the_probe_that_improved() -> None:
    watched = Watched(Model("a")).rounds(2)
    watched.model.knows, watched.model.version = "b", "2"
    watched.rounds()
    assert watched.history.segments == ["a", "b"]
    assert watched.latest.forgetting_by_probe == {"a": 1.0}
    assert (watched.latest.scores.bwt, watched.latest.scores.min_acc, watched.latest.scores.wc_acc) == (
        -1,
        0,
        0.5,
    )
    assert watched.latest.R == ((1.0, 0.0), (1.0, 0.0))
    watched.rounds()
    assert watched.history.segments == ["a", "b"]
    assert [event.samples for event in watched.emitted(SegmentStarted)] == [0, 60]


def test_a_version_that_improves_nothing_is_another_visit_to_the_segment_before() -> None:
    watched = Watched(Model("a")).rounds()
    watched.model.version = "2"
    watched.rounds()
    assert watched.history.segments == ["a", "a"]
    assert watched.latest.forgetting_by_probe == {"a": 0.0}


def test_an_announced_visit_is_named_by_the_user_and_its_version_is_none_of_its_own() -> None:
    watched = Watched(Model("a")).rounds()
    assert watched.announced.add("b", "2")
    watched.rounds()
    assert watched.history.segments == ["a", "b"]
    watched.model.knows, watched.model.version = "b", "2"
    watched.rounds()
    assert watched.history.segments == ["a", "b"]
    assert watched.latest.forgetting_by_probe == {"a": 1.0}


def test_announced_visits_that_wait_are_limited() -> None:
    waiting = Visits()
    assert [waiting.add(None, None) for _ in range(65)] == [True] * 64 + [False]
    assert len(waiting.take()) == 64
    assert waiting.take() == []


def test_a_file_of_visits_is_read_line_by_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "visits.jsonl"
    watched = Watched(Model("a"), file=path).rounds()
    path.write_text('{"segment": "b"}\n')
    watched.rounds(2)
    assert watched.history.segments == ["a", "b"]
    with path.open("a") as file:
        file.write('not json\n["a"]\n{"segment": "c"}\n{"segment": 3}\n\n{"segment": "a"')
    watched.rounds()
    assert watched.history.segments == ["a", "b"]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 4
    with path.open("a") as file:
        file.write("}\n")
    watched.rounds()
    assert watched.history.segments == ["a", "b", "a"]
    path.write_text('{"segment": "b"}\n')
    watched.rounds()
    assert watched.history.segments == ["a", "b", "a", "b"]


def test_a_drop_that_nobody_announced_is_found_and_begins_a_visit() -> None:
    watched = Watched(Model("a")).rounds(3)
    watched.model.knows = "b"
    watched.rounds()
    assert [event.probe for event in watched.emitted(DropFound)] == ["a"]
    assert watched.history.segments == ["a", "b"]
    assert watched.latest.forgetting_by_probe == {"a": 1.0}


def test_a_sample_finds_the_drop_in_its_first_round_and_all_images_are_asked_about_then() -> None:
    watched = Watched(Model("ab"), Pattern(sample=4), images=400).rounds(50)
    before = sum(event.images for event in watched.emitted(RequestsMade))
    assert before == 2 * 400 + 49 * 2 * 4
    watched.model.knows = "b"
    watched.rounds()
    (found,) = watched.emitted(DropFound)
    assert (found.probe, found.rounds) == ("a", 50)
    assert watched.latest.accuracy == {"a": 0.0, "b": 1.0}
    assert watched.latest.forgetting_by_probe["a"] == 1.0
    after = sum(event.images for event in watched.emitted(RequestsMade)) - before
    assert after < 2 * 400 + 2 * 100
    watched.rounds(20)
    assert len(watched.emitted(DropFound)) == 1


def test_a_version_noticed_in_a_sample_is_a_visit() -> None:
    watched = Watched(Model("ab"), Pattern(sample=4)).rounds(2)
    watched.model.version = "2"
    watched.rounds()
    assert watched.history.segments == ["a", "b", "b"]
    assert watched.emitted(DropFound) == []


def test_a_model_that_does_not_answer_is_unknown_and_not_forgotten() -> None:
    watched = Watched(Model("a")).rounds(2)
    evaluations = len(watched.emitted(Evaluated))
    watched.model.down = True
    watched.rounds(3)
    assert len(watched.emitted(Evaluated)) == evaluations
    assert watched.emitted(DropFound) == []
    assert watched.emitted(TargetStatus)[-1] == TargetStatus(up=False, detail="it is being replaced")
    assert watched.emitted(RequestsMade)[-1].failed >= 1
    watched.model.down = False
    watched.rounds()
    assert [event.up for event in watched.emitted(TargetStatus)] == [True, False, True]
    assert watched.latest.accuracy["a"] == 1.0


def test_an_announced_visit_waits_until_the_model_answers() -> None:
    watched = Watched(Model("a")).rounds()
    watched.model.down = True
    watched.announced.add("b", None)
    watched.rounds()
    assert watched.history.segments == ["a"]
    watched.model.down = False
    watched.rounds()
    assert watched.history.segments == ["a", "b"]


def test_two_versions_in_one_round_measure_neither() -> None:
    watched = Watched(Model("a")).rounds()
    versions = iter("12" * 100)
    original = watched.asker.target.ask

    def ask(x_BCHW: Any) -> Answers:
        watched.model.version = next(versions)
        return original(x_BCHW)

    watched.ask = ask  # type: ignore[method-assign]
    evaluations = len(watched.emitted(Evaluated))
    watched.rounds()
    assert watched.emitted(TargetStatus)[-1].detail.startswith("versions 1, 2 answered in one round")
    assert len(watched.emitted(Evaluated)) == evaluations


def test_an_unexpected_answer_ends_the_start_but_not_the_service() -> None:
    watched = Watched(Model("a"))
    watched.broken = "asked with [2], answered with [3]"
    with pytest.raises(UnexpectedAnswer):
        watched.rounds()
    watched.broken = ""
    watched.rounds()
    watched.broken = "asked with [2], answered with [3]"
    watched.rounds()
    assert not watched.emitted(TargetStatus)[-1].up


def test_history_survives_a_restart_and_a_drop_meanwhile_is_found(tmp_path: Path) -> None:
    with Watched(Model("a"), folder=tmp_path).rounds(3).folder:
        pass
    again = Watched(Model("b"), folder=tmp_path)
    assert again.history.segments == ["a"]
    again.now += 3600
    again.rounds()
    assert [event.probe for event in again.emitted(DropFound)] == ["a"]
    assert again.history.segments == ["a", "b"]
    assert again.latest.samples == 3600
    assert again.latest.forgetting_by_probe == {"a": 1.0}
    stored = json.loads((tmp_path / "watch.json").read_text())
    assert (stored["tests"], stored["version"]) == (3, "1")


def test_the_state_of_other_measurements_is_refused(tmp_path: Path) -> None:
    with Watched(Model("a"), folder=tmp_path).rounds().folder:
        pass
    with pytest.raises(InvalidSetting, match="measured on the probes a, b, and these are b, a"):
        Watched(Model("a"), folder=tmp_path, names="ba")


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    (tmp_path / "watch.json").write_text('{"format": "lethe-watch/2"}')
    with pytest.raises(InvalidFile, match=r"watch\.json cannot be read"):
        Watched(Model("a"), folder=tmp_path)


def test_requests_begin_evenly_spaced() -> None:
    now = [0.0]
    pace = Pace(60_000, lambda: now[0])
    for _ in range(3):
        pace.wait()
    pace.close()
    with pytest.raises(TargetUnavailable, match="stops"):
        pace.wait()
    unlimited = Pace(None)
    for _ in range(1000):
        unlimited.wait()


def test_a_round_counts_its_requests_and_retries_and_how_long_they_took() -> None:
    watched = Watched(Model("a"))
    pace = Pace(None)
    original = watched.ask

    def ask(x_BCHW: Any) -> Answers:
        if watched.model.requests == 1:
            pace.sleep(0.0)
        return original(x_BCHW)

    watched.ask = ask  # type: ignore[method-assign]
    asker = Asker(watched, pace, watched.events.append, lambda: False, batch=16, concurrency=1)
    asker.ask(probes_of("a", 40)[0].x_NCHW)
    asker.ask(probes_of("a", 16)[0].x_NCHW)
    first, second = watched.emitted(RequestsMade)
    assert (first.answered, first.failed, first.images, first.retried) == (3, 0, 40, 1)
    assert (second.answered, second.images, second.retried) == (1, 16, 0)
    assert len(first.seconds) == 3
    assert all(seconds >= 0 for seconds in first.seconds)


def test_as_many_requests_as_allowed_are_under_way_and_no_more() -> None:
    watched, together, counting = Watched(Model("a")), threading.Barrier(3, timeout=120), threading.Lock()
    original, under_way = watched.ask, [0]
    most = [0]

    def ask(x_BCHW: Any) -> Answers:
        with counting:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        together.wait()  # for two others
        answers = original(x_BCHW)
        with counting:
            under_way[0] -= 1
        return answers

    watched.ask = ask  # type: ignore[method-assign]
    asker = Asker(watched, Pace(None), watched.events.append, lambda: False, batch=4, concurrency=3)
    outcome = asker.ask(probes_of("a", 36)[0].x_NCHW)
    assert (outcome.failure, most) == ("", [3])
    asker.close()
