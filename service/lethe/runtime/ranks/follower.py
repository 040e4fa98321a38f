"""A rank that follows rank 0: it learns its own share of the stream, and stores and serves nothing."""

import time
from contextlib import closing
from dataclasses import replace
from typing import Final

from lethe.ingest.reader_process import ProcessContext
from lethe.learners.capabilities import Pools
from lethe.learners.registry import find
from lethe.privacy.controls import load_controls
from lethe.runtime.factories import create_evaluator, create_learner, load_probes, with_learners_defaults
from lethe.runtime.ranks.evaluation import PART, TASK, evaluate_part
from lethe.runtime.ranks.group import Group
from lethe.runtime.ranks.notes import NOTE, OPENING, PAUSE, Command
from lethe.runtime.ranks.reading import Reading
from lethe.runtime.signals import stop_signals
from lethe.settings import Settings

__all__ = ["follow"]

WAIT_SECONDS: Final = 0.5
"""Longest wait for a batch before rank 0 is notified that there is none."""


def follow(group: Group, settings: Settings, processes: ProcessContext) -> None:
    """Do what rank 0 commands until it has all ranks end. Raises RankLost if it ends otherwise.

    ``processes`` start the reader process.
    """
    settings = with_learners_defaults(settings)
    controls = load_controls(settings.privacy)
    probes = load_probes(settings.evaluation, settings.sample)
    settings = controls.apply(settings, find(settings.learner.name), probes)
    controls.protect_process()
    learner = create_learner(settings.learner, settings.sample, settings.batch.size)
    if not isinstance(learner, Pools):
        raise TypeError(f"{learner.name} cannot learn with other ranks, and was accepted")
    learner.join(group)
    if (rounds := settings.run.average_every) > 1:
        learner.average_every(rounds)
    hashes = {probe.name: probe.sha256 for probe in probes}
    evaluator = create_evaluator(probes, settings, group.rank, group.size)
    segments = controls.segment_names(probes)
    reading = Reading(settings, group.rank, group.size, controls, segments, processes)
    reported = 0.0  # seconds of collective operations that rank 0 knows of
    preparing = 0.0  # seconds in which the next batch was begun

    def prepare() -> None:
        nonlocal preparing
        preparing += reading.prepare(learner)

    with stop_signals() as stop, closing(reading):
        learner.share(refresh=False)
        while (command := Command(group.command())) is not Command.FINISH:
            match command:
                case Command.OPEN:
                    reading.open(OPENING.validate_json(group.broadcast_bytes()))
                case Command.WAIT:
                    reading.wait(WAIT_SECONDS)  # what it returns concerns rank 0's reader alone
                    group.gather(NOTE.dump_json(reading.note(stop=stop.is_set())), prepare)
                case Command.LEARN:
                    began, collective_before = time.monotonic(), group.collective_seconds
                    learned = reading.learn(learner)
                    if learned is None or learned.learned is None:
                        learner.skip()
                    if learned is not None:
                        learned = learned.on_clock(group.clock_offset)
                    learning = time.monotonic() - began - (group.collective_seconds - collective_before)
                    reading.wait(0.0)
                    note = replace(
                        reading.note(stop=stop.is_set(), learned=learned),
                        learning_seconds=preparing + learning,
                        collective_seconds=group.collective_seconds - reported,
                    )
                    reported = group.collective_seconds
                    preparing = 0.0
                    group.gather(NOTE.dump_json(note), prepare)
                case Command.POOL:
                    learner.pool()
                case Command.SHARE:
                    learner.share(refresh=True)
                case Command.BOUNDARY:
                    learner.boundary()
                case Command.PAUSE:
                    reading.pause(PAUSE.validate_json(group.broadcast_bytes()))
                    group.gather(NOTE.dump_json(reading.note(stop=stop.is_set())))
                case Command.RESUME:
                    reading.resume()
                case Command.EVALUATE:
                    task = TASK.validate_json(group.broadcast_bytes())
                    learner.share_solution()
                    part = evaluate_part(evaluator, learner, task, hashes, stop.is_set)
                    group.gather(PART.dump_json(part))
