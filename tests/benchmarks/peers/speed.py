"""``python -m tests.benchmarks.peers.speed``: speeds of CapyMOA, Avalanche and Lethe, in one run."""

import sys
import time
import warnings
from typing import Annotated

import torch
import typer
from rich.console import Console

from lethe.cli.options import Threads, Turns
from lethe.experiments.bench.speed import SpeedBench, bench_speed, speeds_table
from lethe.learners.base import LearnerContext
from lethe.wire import Labels, Layout, Pixels
from tests.benchmarks.command import run
from tests.benchmarks.peers.measuring import peers
from tests.benchmarks.peers.peer import Peer
from tests.benchmarks.peers.recorder import Segment

__all__ = ["PeerLoop", "main"]


class PeerLoop:
    """Learns with a peer; called with a turn's images, returns the seconds it took.

    Each turn begins with a new peer. Creating it, and with it the data set that Avalanche takes, is not
    counted.
    """

    def __init__(self, kind: type[Peer]) -> None:
        self._kind = kind

    def __call__(self, x_NCHW: Pixels, y_N: Labels) -> float:
        x, y = (torch.split(torch.from_numpy(part), Peer.batch_size) for part in (x_NCHW, y_N))
        segment = Segment([*x], [*y])
        peer = self._kind.for_segments(LearnerContext(Layout()), lambda: [segment])
        began = time.perf_counter()
        for x_BCHW, y_B in zip(segment.x, segment.y, strict=True):
            peer.learn(x_BCHW, y_B)
        return time.perf_counter() - began


def main(
    *,
    method: Annotated[list[str] | None, typer.Option(help="Repeatable.")] = None,
    threads: Threads = 2,
    samples: Annotated[int, typer.Option(min=512, help="Samples of each side in one turn.")] = 16384,
    turns: Turns = 5,
) -> None:
    """Compare the speed of CapyMOA, Avalanche and Lethe, from memory, with that of a bare PyTorch loop."""
    warnings.simplefilter("ignore")  # deprecations within the libraries
    sides = {kind.name: PeerLoop(kind) for kind in peers(method or ("capymoa-finetune", "avalanche-naive"))}
    for speeds in bench_speed(SpeedBench(threads=threads, samples=samples, turns=turns), others=sides):
        ratios = ", ".join(f"{side} {speeds.ratio(side):.2f}" for side in speeds.seconds)
        print(ratios, file=sys.stderr)
    Console().print(speeds_table(speeds, threads))


if __name__ == "__main__":
    run(main, "peers")
