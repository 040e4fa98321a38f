"""Every error that Lethe raises by name, and what becomes of each.

::

    LetheError
    ├── MalformedRecord        dead-lettered and counted; the stream goes on
    ├── BrokerUnavailable      retried with backoff; readiness is false meanwhile
    ├── DeadLetterUnavailable  stops the service before a position passes the record
    ├── PositionLost           stops the service: records it had not learned are gone
    ├── DivergedLoss           stops the service before the weights are touched
    ├── BudgetSpent            ends learning: another batch would cost more privacy than is allowed
    ├── NeverLearned           stops the command: what it shall forget cannot have been learned
    ├── PolicyBroken           stops the service: its policy says that a violation does
    ├── StateNotKept           the service ended, but its last state is not on the disk
    ├── FeederDied             stops the service: the process that reads the broker is gone
    ├── InvalidSetting         stops the command: names the setting and what is allowed
    ├── InvalidScenario        stops the command: names the file and the key
    ├── InvalidFile            stops the command: a file is missing, corrupt or of another version
    └── DataUnavailable        stops the command: no source of a data set can be reached
"""

__all__ = [
    "BrokerUnavailable",
    "BudgetSpent",
    "DataUnavailable",
    "DeadLetterUnavailable",
    "DivergedLoss",
    "FeederDied",
    "InvalidFile",
    "InvalidScenario",
    "InvalidSetting",
    "LetheError",
    "MalformedRecord",
    "NeverLearned",
    "PolicyBroken",
    "PositionLost",
    "StateNotKept",
]


class LetheError(Exception):
    """Base of all errors that Lethe raises on purpose."""


class MalformedRecord(LetheError):
    """A record that is not a sample.

    ``reason`` is one of `service.wire.Reason`: it labels the metric, so it comes from a
    small closed set. ``detail`` is for people and never quotes pixels.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class BrokerUnavailable(LetheError):
    """The broker does not answer; the same call may succeed later."""


class DeadLetterUnavailable(LetheError):
    """A malformed record could not be written to the dead-letter topic."""


class PositionLost(LetheError):
    """The position to read from is no longer (or not yet) in the topic."""


class DivergedLoss(LetheError):
    """The loss of a batch is not finite; raised before the optimizer's step."""


class BudgetSpent(LetheError):
    """A differentially private learner must not learn another batch; raised before anything changes."""


class NeverLearned(LetheError):
    """Samples to be forgotten cannot all have been learned; raised before anything changes."""


class PolicyBroken(LetheError):
    """The policy was violated, and says that this stops the service."""


class StateNotKept(LetheError):
    """The last checkpoint of a run could not be written; a restart learns again from the one before."""


class FeederDied(LetheError):
    """The process that reads the broker ended without being asked to."""


class InvalidSetting(LetheError):
    """A setting has a value that cannot be used."""


class InvalidScenario(LetheError):
    """A scenario file does not describe a stream."""


class InvalidFile(LetheError):
    """A file that was written by Lethe cannot be read back as what it should be."""


class DataUnavailable(LetheError):
    """A data set is neither on this machine nor at any source that can be reached."""
