"""Sample counts: what became of every record, counted from the events of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from lethe.events.checkpoints import Resumed
from lethe.events.records import (
    BatchLearned,
    LoopTurned,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    RecordsUnlabelled,
)

__all__ = ["BALANCE", "COUNTS", "CountInfo", "SampleCounts"]


@dataclass(frozen=True, slots=True)
class CountInfo:
    """What is written about a count; the docstring of its field is the `meaning`."""

    label: str
    total: bool = False
    """It is exported as ``lethe_run_samples``, with the field's name as the label ``outcome``."""
    meaning: str = ""


class SampleCounts(BaseModel):
    """What became of every record: received = learned + unlabelled + dead-lettered + resident."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    received: Annotated[NonNegativeInt, CountInfo("received", total=True)] = 0
    """Records read from the topic."""
    learned: Annotated[NonNegativeInt, CountInfo("learned", total=True)] = 0
    """Samples learned, each once."""
    discarded: Annotated[NonNegativeInt, CountInfo("discarded")] = 0
    """Samples whose pixels were overwritten after they were learned."""
    unlabelled: Annotated[NonNegativeInt, CountInfo("unlabelled", total=True)] = 0
    """Samples without a label, discarded without being learned."""
    dead_lettered: Annotated[NonNegativeInt, CountInfo("dead-lettered", total=True)] = 0
    """Malformed records, sent to the dead-letter topic with the reason."""
    lost: Annotated[NonNegativeInt, CountInfo("lost", total=True)] = 0
    """Offsets that the broker never served."""
    resident: Annotated[NonNegativeInt, CountInfo("resident")] = 0
    """Samples whose pixels are in the service now, before they are learned."""
    kept: Annotated[NonNegativeInt, CountInfo("kept")] = 0
    """Samples of earlier batches that the learner keeps."""

    @property
    def unaccounted(self) -> int:
        """Records received but in no other part of the balance; 0 as long as `BALANCE` holds."""
        return self.received - self.learned - self.unlabelled - self.dead_lettered - self.resident

    def after(self, event: object) -> Self:
        """Return the counts after ``event``; the same object if the event changes none."""
        match event:
            case Resumed():
                return self.model_copy(
                    update={
                        "received": event.received,
                        "learned": event.learned,
                        "discarded": event.learned,  # the process that learned them has ended
                        "unlabelled": event.unlabelled,
                        "dead_lettered": sum(event.dead.values()),
                        "lost": event.lost,
                    }
                )
            case RecordsReceived():
                return self._plus(received=event.count)
            case BatchLearned():
                return self._plus(learned=event.samples, discarded=event.discarded)
            case RecordsUnlabelled():
                return self._plus(unlabelled=event.count)
            case RecordsDeadLettered():
                return self._plus(dead_lettered=event.count)
            case RecordsLost():
                return self._plus(lost=event.count)
            case LoopTurned():
                return self.model_copy(update={"resident": event.resident, "kept": event.kept})
            case _:
                return self

    def _plus(self, **more: int) -> Self:
        return self.model_copy(update={name: getattr(self, name) + count for name, count in more.items()})


def _infos() -> Mapping[str, CountInfo]:
    infos = {}
    for name, field in SampleCounts.model_fields.items():
        (info,) = (item for item in field.metadata if isinstance(item, CountInfo))
        infos[name] = replace(info, meaning=" ".join((field.description or "").split()))
    return infos


COUNTS: Final = _infos()
"""What is written about each count, by its name, in the order of the fields of `SampleCounts`."""
BALANCE: Final = "received = " + " + ".join(
    COUNTS[name].label for name in ("learned", "unlabelled", "dead_lettered", "resident")
)
"""What holds while `SampleCounts.unaccounted` is 0."""
