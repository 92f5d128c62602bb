"""axe-core, which finds what is not accessible in a page; npm fetches it into a scratch folder.

Set PALO_CPP_TEST_AXE to its axe.min.js where npm can fetch nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its source."""
    named = os.environ.get("PALO_CPP_TEST_AXE")
    if named:
        return Path(named).read_text(encoding="utf-8")
    npm = shutil.which("npm")
    if npm is None:  # axe-core is a JavaScript library, not ours to ship; the other tests of the page run without it
        pytest.skip("no npm here to fetch axe-core")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "pack", "axe-core@4", "--silent", "--no-audit", "--no-update-notifier"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    except (subprocess.SubprocessError, OSError):  # without a network the page can still be tested, but for this
        pytest.skip("npm could not fetch axe-core")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        source = archive.extractfile("package/axe.min.js")
        assert source is not None
        return source.read().decode()


def violations(tab: Any, source: str) -> list[str]:
    """What is wrong in a page as it is now: the rule, and the places."""
    tab.evaluate(source)
    run = "(tags) => axe.run({ runOnly: tags })"
    found = tab.evaluate(run, _RULES)["violations"]
    return [f"{rule['id']}: {[node['html'] for node in rule['nodes']]}" for rule in found]
