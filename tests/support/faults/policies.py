"""A policy that demands a purge."""

from pathlib import Path
from typing import Any

import yaml

__all__ = ["held_to"]

POLICY = {"name": "ward", "retention": "statistics", "purge": {"within_seconds": 30}}


def held_to(folder: Path, **more: object) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(POLICY | more))
    return {"privacy": {"policy": str(path)}}
