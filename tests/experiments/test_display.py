"""The demo's tables fit 80 columns for any number of probes."""

import re
from collections.abc import Sequence

import pytest
from rich.console import Console, RenderableType

from lethe.experiments.demo.display import progress, results
from tests.support.reports import made_up

WIDTH = 80


def shown(what: RenderableType) -> str:
    console = Console(width=WIDTH)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def state(probes: Sequence[str]) -> dict[str, object]:
    return {
        "samples": {"learned": 45_000, "dead_lettered": 15_000, "lost": 3},
        "samples_per_second": 1234.5,
        "accuracy": dict.fromkeys(probes, 0.875),
        "scores": {"bwt": -0.125},
        "segment": probes[0],
    }


@pytest.mark.parametrize(
    "probes", [("mnist", "fashion-mnist"), *([f"mnist-permuted-{n}" for n in range(k)] for k in (2, 4, 10))]
)
def test_no_probe_and_no_score_is_cut_off(probes: Sequence[str]) -> None:
    live = shown(progress({"finetune": state(probes), "ridge": None}, 60_000, probes))
    end = shown(results([made_up(name, 0.5, segments=probes) for name in ("finetune", "ridge")]))
    for text in (live, end):
        assert "…" not in text
        assert [probe for probe in (*probes, "BWT") if probe not in text] == []
    assert live.count("87.5 %") == len(probes)
    assert len(re.findall(r"\d → \d", end)) == 2 * len(probes)
