"""The commands ``lethe bench …``: one module for each benchmark."""

import typer

from lethe.cli.bench.canary import canary
from lethe.cli.bench.checkpoint import checkpoint
from lethe.cli.bench.decode import decode
from lethe.cli.bench.drops import drops
from lethe.cli.bench.estimate import estimate
from lethe.cli.bench.learners import learners
from lethe.cli.bench.pipeline import pipeline
from lethe.cli.bench.ranks import ranks
from lethe.cli.bench.restart import restart
from lethe.cli.bench.serving import serving
from lethe.cli.bench.speed import speed
from lethe.cli.bench.warning import warning
from lethe.cli.help import examples

__all__ = ["app"]

app = typer.Typer(
    help="Benchmark Lethe on this machine: interleaved measurements, reported as ratios.",
    no_args_is_help=True,
)

app.command(
    epilog=examples(
        "lethe bench learners --learner ridge --seeds 1 --samples 5000",
        "lethe bench learners --csv scores.csv --html scores.html",
    )
)(learners)
app.command(epilog=examples("lethe bench pipeline --learner ridge", "lethe bench pipeline --turns 3 --json"))(
    pipeline
)
app.command(epilog=examples("lethe bench decode", "lethe bench decode --readers 1 --readers 4 --json"))(
    decode
)
app.command(
    epilog=examples(
        "lethe bench speed --learner ridge --turns 3",
        "lethe bench speed --learner ridge --option features=wavelets+patches",
    )
)(speed)
app.command(epilog=examples("lethe bench checkpoint --learner ridge"))(checkpoint)
app.command(epilog=examples("lethe bench ranks --learner ridge", "lethe bench ranks --evaluations --json"))(
    ranks
)
app.command(epilog=examples("lethe bench restart --turns 3"))(restart)
app.command(epilog=examples("lethe bench serving --rate 50"))(serving)
app.command(epilog=examples("lethe bench canary --policy vault"))(canary)
app.command(epilog=examples("lethe bench warning --scenario mnist-to-fashion --samples 8000"))(warning)
app.command(epilog=examples("lethe bench drops", "lethe bench drops --lives 100 --rounds 1000"))(drops)
app.command(epilog=examples("lethe bench estimate", "lethe bench estimate --learner ridge --samples 4000"))(
    estimate
)
