"""What is dissected: a switch of a scenario, and the learners that learn across it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lethe.errors import InvalidSetting
from lethe.learners.base import Learner
from lethe.learners.gradient.base import GradientLearner
from lethe.learners.registry import find
from lethe.learners.state import JSON
from lethe.learners.vector_scale import VectorOptions
from lethe_producers.datasets import default_root
from lethe_producers.scenario import Scenario, Segment, load_scenario

__all__ = ["Study", "load_study"]


@dataclass(frozen=True, slots=True)
class Study:
    """The learners, and the two segments at whose switch they forget."""

    scenario: Scenario
    learners: Sequence[str]
    samples: int = 10_000
    """Limit of samples per segment."""
    seeds: int = 3
    """Runs of each learner, with the seeds 0, 1, …; the pictures are of seed 0."""
    switch: int = 1
    """Number of the switch; the segment before it is the old one, the one after it the new one."""
    grid: int = 15
    """Points of a surface per axis."""
    images: int = 500
    """Images of the old probe for the predictions along the path and the similarity of layers."""
    options: Mapping[str, JSON] = field(default_factory=dict)
    root: Path = field(default_factory=default_root)

    @property
    def old(self) -> Segment:
        """The segment before the switch."""
        return self.scenario.segments[self.switch - 1]

    @property
    def new(self) -> Segment:
        """The segment after the switch."""
        return self.scenario.segments[self.switch]

    def class_names(self, segment: Segment) -> Sequence[str]:
        """Return what the source of ``segment`` calls each class of the stream, else the label's number."""
        stream, own = self.scenario.stream_classes, segment.facts.classes
        names = stream.names or (own.names if len(own.names) == stream.count else ())
        return names or tuple(map(str, range(stream.count)))

    def kinds(self) -> list[type[Learner]]:
        """Return the classes of the learners.

        Raises InvalidSetting for a learner or an option that does not exist, for a switch that the scenario
        does not have or that leads back to the same subject, and for a network on vectors whose scale is not
        given: its input would change along its path.
        """
        switches = len(self.scenario.segments) - 1
        if not 1 <= self.switch <= switches:
            raise InvalidSetting(
                f"--switch {self.switch}: the scenario {self.scenario.name} has "
                f"{f'the switches 1 to {switches}' if switches else 'no switch'}"
            )
        if self.old.subject == self.new.subject:
            raise InvalidSetting(
                f"--switch {self.switch}: the scenario {self.scenario.name} goes on with {self.old.subject} "
                "there, so nothing old is left behind; choose another scenario or switch"
            )
        kinds = [find(name) for name in self.learners]
        for kind in kinds:
            options = kind.Options.of(self.options)
            if not issubclass(kind, GradientLearner) or self.scenario.layout.features is None:
                continue
            if not isinstance(options, VectorOptions) or options.location is None:
                raise InvalidSetting(
                    f"the samples of {self.scenario.name} are vectors, and {kind.name} follows their scale: "
                    "its network's input would change along the path; fix it with --option location=… and "
                    "--option spread=…"
                )
        return kinds


def load_study(
    scenario: str,
    learners: Sequence[str],
    samples: int,
    seeds: int,
    switch: int,
    grid: int,
    options: Mapping[str, JSON],
) -> Study:
    """Return the study of a scenario, by name or by the path of a YAML file; the rest is as in `Study`.

    Raises InvalidScenario, and InvalidSetting as `Study.kinds`.
    """
    study = Study(load_scenario(scenario), learners, samples, seeds, switch, grid, options=options)
    study.kinds()
    return study
