"""Creates held-out probe sets, one per subject of a scenario, from the test or validation splits."""

from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError

from lethe.errors import InvalidSetting
from lethe.probeset import ProbeSet, save_probe
from lethe_producers.datasets import DATASETS, Split, load
from lethe_producers.records import rows_of
from lethe_producers.scenario import Scenario
from lethe_producers.transforms import transformed

__all__ = ["probes_of", "write_probes"]


def probes_of(scenario: Scenario, root: Path, split: Split = "test") -> list[ProbeSet]:
    """Return a probe for each subject, in the order of first appearance.

    A probe has the classes and the transform of its subject, the rows of ``split`` in the data set's own
    order, and neither label noise nor faults. Raises DataUnavailable when a data set is not under
    ``root``.
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
    """Write the probes of ``scenario`` to the folder ``out``, all or none; return the files' paths.

    Raises DataUnavailable as `probes_of`; InvalidSetting, or OSError with the file's name, when
    ``out`` cannot be written to.
    """
    probes = probes_of(scenario, root)
    out.mkdir(parents=True, exist_ok=True)
    try:
        # moved into place when all are complete: a restarted container takes an existing one for all of them
        with TemporaryDirectory(dir=out, prefix=".probes-") as staged:
            written = [save_probe(probe, Path(staged), order) for order, probe in enumerate(probes)]
            return [path.replace(out / path.name) for path in written]
    except (SafetensorError, OSError) as error:
        raise InvalidSetting(f"--out {out} cannot be written to: {error}") from error
