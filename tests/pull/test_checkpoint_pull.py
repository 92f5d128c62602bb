"""Checkpoints from the hub: planned by their headers, converted shard by shard, killed and resumed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import checkpoints
import gguf
import pytest
from hub_pulls import publish
from huggingface_hub import snapshot_download
from local_hub import Fault, LocalHub
from palo_cpp.convert import convert

from palo_cpp import Palo
from palo_cpp.errors import DownloadError, ModelFormatError
from palo_cpp.models.hub_models import CACHE_ONLY, HubOptions, ModelPaths, cached_model
from palo_cpp.models.names import HubName
from palo_cpp.pull import checkpoint_pull
from palo_cpp.pull.plan import PullOptions, PullPlan, Watch
from palo_cpp.pull.pulling import bring, opened_pull

NAME = HubName("org/small", "Q8_0")
TOWER = "org/tower"
LOW_DISK = PullOptions(is_low_disk=True)
NOBODY = Watch()
LAYOUTS = {
    "pickles": {"weights": "pickle", "n_shards": 4, "clip_inside": False},
    "safetensors": {"weights": "safetensors", "n_shards": 4, "clip_inside": False},
    "lora": {"weights": "safetensors", "lora": True, "clip_inside": False},
    "tower inside": {"weights": "safetensors", "n_shards": 4},
}


@pytest.fixture
def pickles(hub: LocalHub, tmp_path: Path) -> Path:
    """A checkpoint in shards of pickles, on the hub."""
    folder = checkpoints.write_checkpoint(tmp_path / "Small", **LAYOUTS["pickles"])
    publish(hub, folder, vision_tower=TOWER)
    return folder


def pull(options: PullOptions = LOW_DISK, watch: Watch = NOBODY) -> tuple[PullPlan, ModelPaths]:
    with opened_pull(NAME, options) as found:
        return found.plan, found.run(watch)


def n_bytes_on_disk(folder: Path) -> int:
    """What all files take, rounded up to the disk's blocks by each."""
    return sum(512 * path.lstat().st_blocks for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def tensors(path: Path) -> dict[str, bytes]:
    return {tensor.name: tensor.data.tobytes() for tensor in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("is_low_disk", [False, True], ids=["whole", "low disk"])
def test_same_files_as_a_conversion_and_no_more_disk_than_said(hub, cache, tmp_path, layout, is_low_disk):
    folder = checkpoints.write_checkpoint(tmp_path / "Small", **LAYOUTS[layout])
    publish(hub, folder, vision_tower=TOWER, **({"base": "org/base"} if layout == "lora" else {}))
    seen: list[int] = []

    def look(_progress: object) -> None:
        seen.append(n_bytes_on_disk(cache.parent))

    plan, paths = pull(PullOptions(is_low_disk=is_low_disk), Watch(look, look))
    base = folder / "base" if layout == "lora" else None
    done = convert(folder, tmp_path / "out", outtype="q8_0", vision_tower=folder / "vision_tower", base=base)
    assert tensors(paths.text) == tensors(done.model_path)
    assert tensors(paths.mmproj) == tensors(done.mmproj_path)
    assert gguf.GGUFReader(paths.text).fields["palo.pair_id"].contents() == (
        gguf.GGUFReader(done.mmproj_path).fields["palo.pair_id"].contents()
    )
    small = 200_000  # headers, vocabulary, lists, what a block holds beyond a file's end
    assert plan.n_bytes_peak * 0.7 < max(seen) < plan.n_bytes_peak + small
    if is_low_disk:
        shards = [file.size for part in plan.downloads for file in part.files if file.path.endswith(("rs", "in"))]
        adapters = sum(file.size for file in plan.downloads[0].files) if layout == "lora" else 0
        assert plan.n_bytes_peak <= plan.n_bytes_result + max(shards) + adapters < plan.n_bytes_result + sum(shards)
    assert {path.name for path in cache.parent.iterdir()} <= {"hub", "palo-cpp"}
    assert [path.name for path in (cache.parent / "palo-cpp").iterdir()] == ["org--small"]
    assert not list(cache.glob("models--*")), "the checkpoint was to go"
    of_tower = [file.path for part in plan.downloads if part.repository.name == TOWER for file in part.files]
    assert any(path.endswith((".safetensors", ".bin")) for path in of_tower) == (layout != "tower inside")


def test_a_plan_reads_headers_and_leaves_nothing(hub, cache, pickles):
    with opened_pull(NAME, LOW_DISK) as found:
        assert found.plan.n_bytes_result > 0 and found.plan.n_bytes_memory > found.plan.n_bytes_result
    assert not list(cache.parent.rglob("*"))
    weights = sum(path.stat().st_size for path in pickles.glob("*.bin"))
    assert hub.n_bytes_served("pytorch_model-") < weights + 400_000, "small files: whole blocks of them were read"


def test_a_checkpoint_that_cannot_be_converted_is_not_fetched(hub, tmp_path, cache):
    folder = checkpoints.write_checkpoint(tmp_path / "Small", weights="safetensors", n_shards=2)
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0" + b"no safetensors" * 900)
    publish(hub, folder, vision_tower=TOWER)
    with pytest.raises(ModelFormatError, match="damaged safetensors header"), opened_pull(NAME, LOW_DISK):
        pass
    assert not list(cache.parent.rglob("*"))


CODE = """
import sys
from palo_cpp.models.names import HubName
from palo_cpp.pull.plan import PullOptions, Watch
from palo_cpp.pull.pulling import opened_pull
def pace(progress):
    import time; time.sleep(0.004); print(flush=True)
with opened_pull(HubName("org/small", "Q8_0"), PullOptions(is_low_disk=True)) as found:
    found.run(Watch(pace, pace))
"""


def test_killed_at_random_moments(hub, cache, pickles, tmp_path):
    """kill -9 while shards come and are converted: the next pull goes on, also with what was converted."""
    chance = random.Random(5)
    hub.bytes_per_s = 4_000_000
    n_killed = 0
    for _ in range(12):
        with subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(chance.uniform(0.05, 0.4))
            os.kill(process.pid, signal.SIGKILL)
            n_killed += process.wait() == -signal.SIGKILL
        if cached_model(NAME, CACHE_ONLY) is not None:
            break
    assert n_killed >= 3
    (cache.parent / "palo-cpp" / ".pull").mkdir(exist_ok=True)
    _, paths = pull()
    done = convert(pickles, tmp_path / "out", outtype="q8_0", vision_tower=pickles / "vision_tower")
    assert tensors(paths.text) == tensors(done.model_path)
    assert tensors(paths.mmproj) == tensors(done.mmproj_path)
    assert [path.name for path in (cache.parent / "palo-cpp").iterdir()] == ["org--small"]
    assert not list(cache.glob("models--*"))


def test_what_was_converted_is_not_fetched_again(hub, cache, pickles):
    shard = "pytorch_model-00003-of-00004.bin"
    with opened_pull(NAME, LOW_DISK) as found:
        hub.faults = [Fault(f"name={shard}", status=500)]
        with pytest.raises(DownloadError, match="what has arrived is kept"):
            found.run(Watch())
        left = n_bytes_on_disk(cache)
    assert left < max(path.stat().st_size for path in pickles.glob("*.bin"))
    hub.faults = []
    n_before = len(hub.requests)
    _, paths = pull()
    fetched = {request.path for request in hub.requests[n_before:] if "Range" not in request.headers}
    assert any(shard in path for path in fetched)
    again = hub.requests[n_before:]
    first = "pytorch_model-00001-of-00004.bin"
    n_again = sum(request.n_bytes for request in again if first in request.path)
    assert n_again <= 2 * (1 << 18), "its header was read"
    assert paths.text.is_file()


def test_a_changed_checkpoint_starts_anew(hub, cache, pickles, tmp_path):
    with opened_pull(NAME, LOW_DISK) as found:
        hub.faults = [Fault("name=pytorch_model-00003", status=500)]
        with pytest.raises(DownloadError):
            found.run(Watch())
    hub.faults = []
    other = checkpoints.write_checkpoint(tmp_path / "Other", seed=7, **LAYOUTS["pickles"])
    publish(hub, other, vision_tower=TOWER)
    _, paths = pull()
    done = convert(other, tmp_path / "out", outtype="q8_0", vision_tower=other / "vision_tower")
    assert tensors(paths.text) == tensors(done.model_path)
    assert not list(cache.glob("models--*"))


def test_what_somebody_else_fetched_stays(hub, cache, pickles):
    snapshot_download(NAME.repository)
    served = hub.n_bytes_served("pytorch_model-")
    pull()
    assert hub.n_bytes_served("pytorch_model-") == served
    assert [path.name for path in cache.glob("models--*")] == ["models--org--small"]
    assert len(list(cache.rglob("*.bin"))) == 4


def test_a_full_disk_is_said_before(pickles, monkeypatch, cache, hub):
    with opened_pull(NAME, PullOptions()) as found:
        served = hub.n_bytes_served()
        monkeypatch.setattr(checkpoint_pull, "free_bytes", lambda _folder: found.plan.n_bytes_peak)
        with pytest.raises(DownloadError, match=r"GiB of free space for org/small:Q8_0.*--low-disk needs less"):
            found.run(Watch())
        assert hub.n_bytes_served() == served


@pytest.mark.usefixtures("pickles")
def test_palo_converts_and_answers(hub, picture):
    with Palo("org/small:Q8_0", n_threads=1) as palo:
        assert palo.ask(picture, "?", max_tokens=3).text is not None
    n_requests = len(hub.requests)
    Palo("org/small:Q8_0", n_threads=1).close()
    assert len(hub.requests) == n_requests
    bring("org/small:Q8_0", HubOptions())
    assert len(hub.requests) == n_requests


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.usefixtures("pickles")
def test_two_processes_convert_once(hub):
    hub.bytes_per_s = 4_000_000
    command = [sys.executable, "-c", CODE]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    weights = sum(file.size for path, file in hub.repositories["org/small"].files.items() if path.endswith(".bin"))
    whole = sum(r.n_bytes for r in hub.requests if "pytorch_model-" in r.path)
    assert whole < 2 * weights + 3 * 4 * (1 << 18)
