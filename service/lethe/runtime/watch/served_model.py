"""Which model is to be served: a file that a gateway reads, and the receipts of every decision.

The file is JSON, or a manifest of a Kubernetes ConfigMap. The receipts are JSON lines in a file beside it;
each holds the SHA-256 of the one before, so that none can be changed or removed from the middle unnoticed.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import Field, ValidationError

from lethe.errors import InvalidFile, InvalidSetting
from lethe.models import Document

__all__ = ["Receipt", "ServedModel"]

NOTHING: Final = "0" * 64
"""Stands for the hash before the first receipt."""


class Receipt(Document):
    """One decision."""

    number: int = Field(ge=1)
    previous: str
    """SHA-256 of the receipt before, in hex."""
    at: float
    """Seconds since 1970."""
    kind: Literal["promoted", "kept", "rolled back"]
    served: str
    """Name of the model that is to be served from now on."""
    address: str
    before: str
    """Name of the model that was served before."""
    before_address: str
    margin: float | None = None
    wc_acc: dict[str, float] = Field(default_factory=dict)
    """Of each compared model."""
    measured: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each model's run.json."""

    @property
    def sha256(self) -> str:
        """Hash of all fields."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()


class ServedModel:
    """The file ``path``, as a ConfigMap named ``config_map`` if given, and its receipts."""

    def __init__(self, path: Path, config_map: str | None = None) -> None:
        self._path, self._config_map = path, config_map
        self._log = path.with_name(f"{path.name}.receipts.jsonl")
        self.receipts = self._read()
        """All decisions so far, verified."""

    @property
    def served(self) -> str | None:
        """Name of the model that is served; None before the first decision."""
        return self.receipts[-1].served if self.receipts else None

    def decide(
        self,
        champion: tuple[str, str],
        winner: tuple[str, str],
        margin: float,
        wc_acc: Mapping[str, float],
        measured: Mapping[str, str],
    ) -> Receipt:
        """Serve ``winner`` and return the receipt; both are a name and an address.

        Raises InvalidSetting if another model than the ``champion`` is served.
        """
        if self.served not in (None, champion[0]):
            raise InvalidSetting(
                f"{self._path} says that {self.served} is served: name it first, as the champion, "
                f"not {champion[0]}"
            )
        kind: Literal["promoted", "kept"] = "kept" if winner[0] == champion[0] else "promoted"
        evidence = {"margin": margin, "wc_acc": dict(wc_acc), "measured": dict(measured)}
        return self._write(kind, winner, champion, **evidence)

    def roll_back(self) -> Receipt:
        """Serve the model again that was served before the latest change, and return the receipt.

        Raises InvalidSetting if there is none.
        """
        for receipt in reversed(self.receipts):
            if receipt.before != receipt.served:
                back = (receipt.before, receipt.before_address)
                return self._write("rolled back", back, (receipt.served, receipt.address))
        raise InvalidSetting(f"{self._path}: nothing to go back to, no other model was served")

    def _write(
        self,
        kind: Literal["promoted", "kept", "rolled back"],
        served: tuple[str, str],
        before: tuple[str, str],
        **evidence: Any,
    ) -> Receipt:
        receipt = Receipt(
            number=len(self.receipts) + 1,
            previous=self.receipts[-1].sha256 if self.receipts else NOTHING,
            at=time.time(),
            kind=kind,
            served=served[0],
            address=served[1],
            before=before[0],
            before_address=before[1],
            **evidence,
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # first the receipt: a model that serves without one could not be explained
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{receipt.model_dump_json()}\n")
            log.flush()
            os.fsync(log.fileno())
        self.receipts.append(receipt)
        partial = self._path.with_name(f"{self._path.name}.partial")
        with partial.open("w", encoding="utf-8") as file:
            file.write(self._document(receipt))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)
        return receipt

    def _document(self, receipt: Receipt) -> str:
        served = {"model": receipt.served, "address": receipt.address, "receipt": receipt.sha256}
        if self._config_map is None:
            return json.dumps(served, indent=1) + "\n"
        metadata = {"name": self._config_map}
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": served}
        text: str = yaml.safe_dump(manifest, sort_keys=False)
        return text

    def _read(self) -> list[Receipt]:
        """Return the receipts. Raises InvalidFile for one that was changed or that cannot be read."""
        if not self._log.exists():
            return []
        receipts: list[Receipt] = []
        for number, line in enumerate(self._log.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                receipt = Receipt.model_validate_json(line)
            except ValidationError as error:
                raise InvalidFile(f"{self._log}, line {number}, is no receipt: {error}") from error
            expected = receipts[-1].sha256 if receipts else NOTHING
            if receipt.previous != expected or receipt.number != number:
                raise InvalidFile(f"{self._log}, line {number}: an earlier receipt was changed or removed")
            receipts.append(receipt)
        return receipts
