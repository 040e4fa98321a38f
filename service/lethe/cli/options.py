"""Options that several commands take."""

import json
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

__all__ = [
    "AsJson",
    "Broker",
    "Learner",
    "Learners",
    "LearnersOptions",
    "NewFolder",
    "OneLearnersOptions",
    "OptionalSamples",
    "PluginLearner",
    "Samples",
    "SamplesLabel",
    "StateFolder",
    "Threads",
    "Turns",
    "write_json",
]

AsJson = Annotated[bool, Option("--json", help="Print one JSON document and nothing else.")]
Broker = Annotated[
    str | None,
    Option(metavar="HOST:PORT", help="A Kafka cluster. Default: an embedded broker in this process."),
]
Learner = Annotated[str, Option(help="A learner's name; see lethe learners.")]
Learners = Annotated[list[str] | None, Option(help="A learner's name; repeatable. See lethe learners.")]
LearnersOptions = Annotated[
    list[str] | None, Option(metavar="NAME=VALUE", help="Option of all the learners; repeatable.")
]
OneLearnersOptions = Annotated[
    list[str] | None,
    Option(metavar="NAME=VALUE", help="Option of the learner; repeatable. Requires a single --learner."),
]
NewFolder = Annotated[Path, Option("--out", metavar="DIR", help="State folder to write; it must be new.")]
PluginLearner = Annotated[
    str | None, Option(help="Learner of another package that the checkpoint names; imports its code.")
]
_SAMPLES = Argument(
    metavar="SAMPLES", help="PNG files (with --label), folders of LABEL/*.png, or .npz files of x and y."
)
Samples = Annotated[list[Path], _SAMPLES]
OptionalSamples = Annotated[list[Path] | None, _SAMPLES]
SamplesLabel = Annotated[int | None, Option(metavar="N", min=0, help="Label of the PNG files.")]
StateFolder = Annotated[Path, Argument(metavar="DIR", help="A state folder: the --state of lethe run.")]
Threads = Annotated[int, Option(metavar="N", min=1, help="Threads for torch.")]
Turns = Annotated[int, Option(metavar="N", min=1, help="Measurements of each side.")]


def write_json(document: object, indent: int | None = None) -> None:
    """Write one JSON document to standard output."""
    json.dump(document, sys.stdout, indent=indent)
    sys.stdout.write("\n")
