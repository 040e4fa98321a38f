"""Held-out probe sets, one for each subject of a scenario, from the data sets' test or validation splits."""

from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError

from producers.datasets import DATASETS, Split, load
from producers.records import rows_of
from producers.scenario import Scenario
from producers.transforms import transformed
from service.errors import InvalidSetting
from service.probeset import ProbeSet, save_probe

__all__ = ["probes_of", "write_probes"]


def probes_of(scenario: Scenario, root: Path, split: Split = "test") -> list[ProbeSet]:
    """Return a probe for each subject, in the order of first visits.

    A probe sees its subject as the stream shows it: same classes, same transform, but the rows
    are those of ``split``, in the data set's own order, and neither noise nor faults.
    Raises DataUnavailable when a data set is not under ``root``.
    """
    probes = []
    for segment in scenario.subjects:
        dataset = DATASETS[segment.dataset]
        x_NCHW, y_N = rows_of(segment, *load(segment.dataset, split, root))
        changes = "" if segment.classes is None else f", classes {', '.join(map(str, segment.classes))}"
        if segment.transform is not None:
            (change, by), *_ = segment.transform.model_dump(exclude_none=True).items()
            changes += f", {change} {by}"
        probes.append(
            ProbeSet(
                name=segment.subject,
                x_NCHW=transformed(x_NCHW, segment.transform),
                y_N=y_N,
                source=f"{dataset.name}, {split} split{changes}",
                consent=f"public data set ({dataset.licence})",
            )
        )
    return probes


def write_probes(scenario: Scenario, root: Path, out: Path) -> list[Path]:
    """Write the probes of ``scenario`` into the folder ``out``: all of them or none; return the files' paths.

    Raises DataUnavailable as `probes_of`; InvalidSetting, or OSError with the file's name, when
    ``out`` cannot be written to.
    """
    probes = probes_of(scenario, root)
    out.mkdir(parents=True, exist_ok=True)
    try:
        # beside their places first: who finds one there, as a container that starts anew, takes it for all
        with TemporaryDirectory(dir=out, prefix=".probes-") as staged:
            written = [save_probe(probe, Path(staged), order) for order, probe in enumerate(probes)]
            return [path.replace(out / path.name) for path in written]
    except (SafetensorError, OSError) as error:
        raise InvalidSetting(f"out: {out} cannot be written to: {error}") from error
