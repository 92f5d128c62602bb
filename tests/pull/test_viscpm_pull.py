"""VisCPM-Chat from the hub: one of its checkpoints, its vocabulary, no tower, and files that are a model."""

from __future__ import annotations

import pytest
from palo_cpp.convert import convert
from viscpm_checkpoint import write_viscpm_checkpoint

from palo_cpp.families.registry import VISCPM
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.models.files import find_model
from palo_cpp.models.names import HubName
from palo_cpp.pull.plan import PullOptions, Watch
from palo_cpp.pull.pulling import opened_pull

NAME = HubName("openbmb/VisCPM-Chat", "Q8_0")


@pytest.fixture
def published(hub, tmp_path):
    folder = write_viscpm_checkpoint(tmp_path / "VisCPM-Chat")
    write_viscpm_checkpoint(folder, seed=1, weights="pytorch_model.v1.bin")
    hub.add(NAME.repository, {path.name: path for path in folder.iterdir()})
    return folder


@pytest.mark.parametrize("is_low_disk", [False, True])
def test_it_is_pulled_whole(published, tmp_path, is_low_disk):
    with opened_pull(NAME, PullOptions(is_low_disk=is_low_disk)) as found:
        (download,) = found.plan.downloads
        assert {file.path for file in download.files} == {"config.json", "vocab.txt", "pytorch_model.bin"}
        assert any("research" in warning for warning in found.plan.warnings)
        paths = found.run(Watch())
    files = find_model(paths.text.parent)
    assert files.family is VISCPM and files.mmproj is not None
    done = convert(published, tmp_path / "out", outtype="q8_0")
    assert read_header(done.model_path).weights_id() == files.text.weights_id()
