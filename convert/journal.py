"""What a conversion has brought to the disk, so that the next one goes on where its process died."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from .plan import Plan

_NAME = "journal"


class Journal:
    """Digests of the tensors that are in the unfinished files.

    Args:
        folder: of the unfinished files; None where they would not outlast the process.
        fingerprint: what the conversion makes, and of what; files of another one are removed.

    Attributes:
        digests: by the steps' keys.
    """

    def __init__(self, folder: Path | None, fingerprint: str) -> None:
        self.digests: dict[str, str] = {}
        self._path = None if folder is None else folder / _NAME
        if folder is not None and not self._load(folder / _NAME, fingerprint):
            for path in folder.iterdir():
                path.unlink()
            self._append([fingerprint])

    def _load(self, path: Path, fingerprint: str) -> bool:
        try:
            first, *lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):  # none, or an empty one
            return False
        if first != fingerprint:
            return False
        for line in lines:
            key, _, digest = line.partition("\t")
            if len(digest) == hashlib.sha256().digest_size * 2:  # else the power was cut while it was written
                self.digests[key] = digest
        return True

    def add(self, digests: dict[str, str]) -> None:
        """Tensors are on the disk."""
        self.digests |= digests
        self._append([f"{key}\t{digest}" for key, digest in digests.items()])

    def _append(self, lines: list[str]) -> None:
        if self._path is None or not lines:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())


def fingerprint(plan: Plan, source_id: str, version: str) -> str:
    """Names a conversion: what it is made of, what it makes, and who makes it.

    Args:
        plan: of the conversion.
        source_id: says which bytes the source has.
        version: of the converter.
    """
    files = [file.to_dict() for file in plan.files]
    text = json.dumps([version, source_id, plan.name, files], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
