"""How many switches of short segments the detector finds in images alone, for any batch size.

Each shipped scenario is cut to segments of a few samples, which take turns many times, with new rows at
every visit. There is no learner: the error is constant, and only the images carry information.
"""

import argparse
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final

import numpy as np

from lethe.drift.detector import BoundaryDetector
from lethe.drift.features import FeatureSums, Numbers, sum_features
from lethe.errors import MalformedRecord
from lethe.evaluation.boundary_scores import BoundaryVerdict, match_boundaries
from lethe.wire import Layout, decode
from lethe_producers.datasets import default_root
from lethe_producers.order import Order
from lethe_producers.records import Records
from lethe_producers.scenario import Scenario, Segment, shipped_scenarios

__all__ = ["SIZES", "Stream", "in_turns", "stream_of", "verdict"]

SIZES: Final = (1, 8, 64, 256, 512, 1024)


@dataclass(frozen=True)
class Stream:
    """A stream without its images."""

    values_NF: Numbers
    """The features of each."""
    switches: list[int]
    """Samples before each."""
    ramps: list[tuple[int, int]]


def in_turns(scenario: Scenario, samples: int, visits: int) -> Scenario:
    """Return a scenario whose ``visits`` segments of ``samples`` each are those of ``scenario``, in turns."""
    segments = [scenario.segments[visit % len(scenario.segments)] for visit in range(visits)]
    cut = [
        segment.model_copy(update={"count": samples, "blend": _blend(segment, samples, visit < visits - 1)})
        for visit, segment in enumerate(segments)
    ]
    return Scenario(name=scenario.name, description=scenario.description, segments=tuple(cut))


def _blend(segment: Segment, samples: int, followed: bool) -> int:
    return min(segment.blend, samples // 3) // 2 * 2 if followed else 0


def stream_of(scenario: Scenario, seed: int) -> Stream:
    """Return the features of all that can be learned of ``scenario``; raises DataUnavailable."""
    return _read(scenario.model_dump_json(), seed)


@cache
def _read(document: str, seed: int) -> Stream:
    scenario = Scenario.model_validate_json(document)
    order = Order(scenario, seed)
    records, layout = Records(order, default_root()), Layout()
    images, subjects, before = [], [], [0]
    for place in range(len(records)):
        record = records.at(place)
        try:
            images.append(decode(record.value, record.headers, layout).pixels)
            subjects.append(scenario.segments[order.at(place).segment].subject)
        except MalformedRecord:
            pass
        before.append(len(images))
    summed = sum_features(np.stack(images))
    return Stream(
        np.diff(summed.sums_NF, axis=0),
        [index for index, (one, next_one) in enumerate(pairwise(subjects), 1) if one != next_one],
        [(before[begin], before[end]) for begin, end in order.ramps],
    )


def verdict(stream: Stream, size: int) -> BoundaryVerdict:
    """Return what became of the switches in batches of ``size``."""
    detector, found, late = BoundaryDetector(), [], []
    for begin in range(0, len(stream.values_NF), size):
        features = FeatureSums.of(stream.values_NF[begin : begin + size])
        if (detection := detector.update(features, features.count, None)) is not None:
            found.append(begin + features.count)
            late.append(detection.late)
    return match_boundaries(stream.switches, found, stream.ramps, late)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1100, help="of each segment")
    parser.add_argument("--visits", type=int, default=20, help="segments in all")
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    print("| scenario |", " | ".join(f"batches of {size}" for size in SIZES), "|")
    print("|---|" + "---|" * len(SIZES))
    for scenario in shipped_scenarios():
        cut = in_turns(scenario, chosen.samples, chosen.visits)
        cells = []
        for size in SIZES:
            came = [verdict(stream_of(cut, seed), size) for seed in range(chosen.seeds)]
            delays = [delay for one in came for delay in one.delays]
            found = [delay for delay in delays if delay is not None]
            mean = f", {sum(found) / len(found):,.0f}" if found else ""
            false = sum(one.false_alarms for one in came)
            cells.append(f"{len(found)} of {len(delays)}, {false}{mean}")
        print(f"| {scenario.name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
