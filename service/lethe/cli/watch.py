"""The command ``lethe watch``: measures what a model forgets that Lethe does not train."""

import logging
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Option

from lethe.cli.flags import name_flags
from lethe.cli.named_runs import named_runs
from lethe.errors import InvalidSetting
from lethe.files.terminal import LineFormatter
from lethe.settings import Settings

__all__ = ["watch"]

TARGET, ASKING, MEASURING, SERVING = "Target", "Asking", "Measuring", "Serving"


def watch(
    *,
    probes: Annotated[
        Path,
        Option(metavar="DIR", help="Probe files, as lethe-replay probes writes.", rich_help_panel=MEASURING),
    ],
    url: Annotated[
        str | None, Option(metavar="URL", help="Where the model answers.", rich_help_panel=TARGET)
    ] = None,
    protocol: Annotated[
        Literal["kserve-v2", "kserve-v1", "mlflow", "lethe"],
        Option(help="How it is asked at --url.", rich_help_panel=TARGET),
    ] = "kserve-v2",
    python: Annotated[
        str | None,
        Option(metavar="MODULE:NAME", help="A function that is imported and called.", rich_help_panel=TARGET),
    ] = None,
    checkpoints: Annotated[
        Path | None,
        Option(metavar="DIR", help="Each new *.safetensors in it is a version.", rich_help_panel=TARGET),
    ] = None,
    backbone: Annotated[
        str | None,
        Option(metavar="MODULE:NAME", help="Makes the network of --checkpoints.", rich_help_panel=TARGET),
    ] = None,
    pixels: Annotated[
        Literal["uint8", "unit"],
        Option(help="Whole numbers to 255, or float32 from 0 to 1.", rich_help_panel=TARGET),
    ] = "uint8",
    shape: Annotated[
        Literal["nchw", "nhwc", "flat"], Option(help="The shape of a batch.", rich_help_panel=TARGET)
    ] = "nchw",
    token_file: Annotated[
        Path | None,
        Option(metavar="FILE", help="Bearer token for the model.", rich_help_panel=TARGET),
    ] = None,
    ca_file: Annotated[
        Path | None,
        Option(metavar="FILE", help="Certificates to trust at --url.", rich_help_panel=TARGET),
    ] = None,
    every: Annotated[
        float, Option(metavar="SECONDS", min=0.1, help="From one round to the next.", rich_help_panel=ASKING)
    ] = 60.0,
    sample: Annotated[
        int | None,
        Option(
            metavar="N",
            min=1,
            help="Images of each probe in a round, drawn anew each time; all after a drop. Default: all.",
            rich_help_panel=ASKING,
        ),
    ] = None,
    requests_per_minute: Annotated[
        float | None,
        Option(metavar="N", min=0.1, help="Most requests a minute.", rich_help_panel=ASKING),
    ] = None,
    batch: Annotated[
        int, Option(metavar="N", min=1, max=256, help="Images in a request.", rich_help_panel=ASKING)
    ] = 32,
    concurrency: Annotated[
        int, Option(metavar="N", min=1, max=64, help="Requests at once.", rich_help_panel=ASKING)
    ] = 4,
    timeout: Annotated[
        float,
        Option(metavar="SECONDS", min=0.1, help="For each part of an answer.", rich_help_panel=ASKING),
    ] = 10.0,
    retries: Annotated[
        int, Option(metavar="N", min=0, max=10, help="After a failed request.", rich_help_panel=ASKING)
    ] = 2,
    rounds: Annotated[
        int | None, Option(metavar="N", min=1, help="End after so many rounds.", rich_help_panel=ASKING)
    ] = None,
    images: Annotated[
        int, Option(metavar="N", min=1, help="Most images of each probe.", rich_help_panel=MEASURING)
    ] = 500,
    seed: Annotated[int, Option(metavar="N", min=0, help="Chooses them.", rich_help_panel=MEASURING)] = 0,
    alpha: Annotated[
        float,
        Option(
            min=1e-9, max=0.5, help="Most probability of any false alarm, ever.", rich_help_panel=MEASURING
        ),
    ] = 0.05,
    tolerance: Annotated[
        float,
        Option(min=0, max=0.19, help="Loss of accuracy that is no drop.", rich_help_panel=MEASURING),
    ] = 0.01,
    visits: Annotated[
        Path | None,
        Option(metavar="FILE", help="JSON lines of visits, appended to.", rich_help_panel=MEASURING),
    ] = None,
    state: Annotated[
        Path | None,
        Option(metavar="DIR", help="Keeps the history over restarts.", rich_help_panel=SERVING),
    ] = None,
    report: Annotated[
        Path | None,
        Option(metavar="DIR", help="For run.json and, at the end, report.html.", rich_help_panel=SERVING),
    ] = None,
    beside: Annotated[
        list[str] | None,
        Option(
            metavar="[NAME=]RUN",
            help="run.json of a model that is watched elsewhere, for the live page.",
            rich_help_panel=SERVING,
        ),
    ] = None,
    host: Annotated[
        str | None,
        Option(metavar="ADDRESS", help="Listen here. Default: 127.0.0.1.", rich_help_panel=SERVING),
    ] = None,
    port: Annotated[
        int | None, Option(metavar="PORT", help="Default: 9108.", rich_help_panel=SERVING)
    ] = None,
    allowed_hosts: Annotated[
        str | None, Option(metavar="NAMES", help="Accepted Host headers.", rich_help_panel=SERVING)
    ] = None,
    serve_token_file: Annotated[
        Path | None,
        Option(metavar="FILE", help="Bearer token that requests must carry.", rich_help_panel=SERVING),
    ] = None,
    keep_serving: Annotated[
        bool | None, Option("--keep-serving", help="Serve on after --rounds.", rich_help_panel=SERVING)
    ] = None,
) -> None:
    """Measure what a model forgets that Lethe does not train: a server, a function, checkpoints.

    The model is asked about the probes, round after round. Metrics, live page, /state and run.json are those
    of a run. A model that does not answer is unknown, not forgotten.
    """
    serve = {"host": host, "port": port, "hosts": allowed_hosts, "token_file": serve_token_file}
    serve |= {"keep": keep_serving}
    given: dict[str, dict[str, Any]] = {
        "serve": {name: value for name, value in serve.items() if value is not None},
        "run": {} if report is None else {"report": report},
        "evaluation": {"probes": probes, "every": max(1, round(every)), "subset": images},
        "learner": {"seed": seed},
    }
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    for noisy in ("uvicorn", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    from lethe.runtime.watch.service import Watch, watch_model  # not for --help
    from lethe.runtime.watch.targets.http import HttpOptions
    from lethe.runtime.watch.targets.target import Form
    from lethe.runtime.watch.watcher import Pattern

    options = Watch(
        probes=probes,
        url=url,
        protocol=protocol,
        python=python,
        checkpoints=checkpoints,
        backbone=backbone,
        http=HttpOptions(timeout, retries, token_file, ca_file, Form(pixels, shape)),
        pattern=Pattern(every, sample, alpha, tolerance),
        images=images,
        seed=seed,
        batch=batch,
        concurrency=1 if url is None else concurrency,
        per_minute=requests_per_minute,
        state=state,
        visits=visits,
        rounds=rounds,
        beside=named_runs(beside or []),
    )
    try:
        watch_model(options, Settings.read(given))
    except InvalidSetting as error:
        raise InvalidSetting(name_flags(str(error))) from error
