"""Creates held-out probe sets, one per subject of a scenario, from the test or validation splits."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from safetensors import SafetensorError

from lethe.errors import InvalidSetting
from lethe.probeset import ProbeSet, save_probe
from lethe_producers.scenario import Scenario
from lethe_producers.splits import Split, probe_rows
from lethe_producers.transforms import transformed

__all__ = ["probes_of", "write_probes"]


def probes_of(scenario: Scenario, root: Path, split: Split = "test") -> list[ProbeSet]:
    """Return a probe for each subject, in the order of first appearance.

    A probe has the classes and the transforms of its subject, the rows of ``split`` in the source's own
    order, and neither label noise nor faults. Raises DataUnavailable when a source cannot be read.
    """
    probes = []
    for segment in scenario.subjects:
        rows = probe_rows(segment, split, root)
        changes = "" if segment.classes is None else f", classes {', '.join(map(str, segment.classes))}"
        changes += "".join(f", {transform}" for transform in segment.transform)
        labels = np.array(scenario.labels_of(segment), np.int64)
        probes.append(
            ProbeSet(
                name=segment.subject,
                x_NCHW=transformed(rows.read(np.arange(len(rows))), segment.transform),
                y_N=labels[rows.y_N],
                source=f"{segment.source.title}, {split} split{changes}",
                consent=segment.source.licence,
                classes=scenario.stream_classes.names,
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
