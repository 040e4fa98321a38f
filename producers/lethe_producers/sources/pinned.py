"""The data sets whose files are pinned, as a source."""

from pathlib import Path
from typing import ClassVar

from lethe_producers.datasets import DATASETS, DatasetName, load
from lethe_producers.sources.base import Classes, Facts, Part, Rows, Source, rows_of_array

__all__ = ["PinnedDataset"]


class PinnedDataset(Source):
    """A data set that is downloaded and checked against pinned SHA-256; see `lethe_producers.datasets`."""

    short: ClassVar[str] = "name"

    name: DatasetName
    """Its name."""

    @property
    def title(self) -> str:
        """The name."""
        return self.name

    @property
    def licence(self) -> str:
        """The data set's licence."""
        return f"public data set ({DATASETS[self.name].licence})"

    @property
    def key(self) -> object:
        """The name; it seeds shuffles, which must stay the same."""
        return self.name

    def rows(self, part: Part, root: Path) -> Rows:
        """Open a part. Raises DataUnavailable if a file is missing or corrupt."""
        return rows_of_array(*load(self.name, part, root), self._classes)

    def facts(self, part: Part, root: Path) -> Facts:
        """Return what is known of the training part without its files; the test part is opened."""
        if part == "test":
            return super().facts(part, root)
        return Facts(DATASETS[self.name].rows_of_class, (1, 28, 28), self._classes)

    @property
    def _classes(self) -> Classes:
        return Classes(10, DATASETS[self.name].classes)
