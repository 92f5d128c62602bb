"""Models by their names on the hub: which files they are, what the cache has of them, and fetching them."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants, snapshot_download
from local_hub import LocalHub

from palo_cpp import Palo
from palo_cpp.errors import ArgumentError, DownloadError, ModelNotFoundError
from palo_cpp.models.file_choice import choose_files, outtype_of
from palo_cpp.models.files import find_model
from palo_cpp.models.hub_models import HubOptions
from palo_cpp.models.names import PUBLISHED, HubName, hub_name
from palo_cpp.pull.pulling import bring

NAME = "org/small"


@pytest.fixture
def on_hub(hub: LocalHub, model_dir: Path) -> dict[str, Path]:
    """The small model as a repository."""
    files = {path.name: path for path in sorted(model_dir.glob("*.gguf"))}
    hub.add(NAME, {**files, "README.md": b"# Small"})
    return files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7b", HubName("MBZUAI/PALO-7B")),
        ("mobile:q4_k_m", HubName("MBZUAI/MobilePALO-1.7B", "Q4_K_M")),
        ("org/repo", HubName("org/repo")),
        ("org/repo.v1-GGUF:Q8_0", HubName("org/repo.v1-GGUF", "Q8_0")),
        *[
            (text, None)
            for text in ("", "7", "./a", "/a/b", "a/b/c", "~/x", "../x", "a/b.gguf", "a/b:", "a/b:c/d", "a:b")
        ],
    ],
)
def test_names(text, expected):
    assert hub_name(text) == expected


def test_every_published_model_has_a_tower():
    assert {each.family for each in PUBLISHED.values()} == {"palo", "viscpm"}
    assert all("/" in each.checkpoint for each in PUBLISHED.values())
    assert all("/" in each.vision_tower for each in PUBLISHED.values() if each.family == "palo")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("PALO-7B-Q4_K_M.gguf", "Q4_K_M"),
        ("mmproj-PALO-7B-F16.gguf", "F16"),
        ("model.q8_0.gguf", "Q8_0"),
        ("x-IQ2_XXS.gguf", "IQ2_XXS"),
        ("x-bf16.gguf", "BF16"),
        ("sub/UD-Q4_K_XL/x-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("Q4/model.gguf", ""),
    ],
)
def test_type_in_a_name(path, expected):
    assert outtype_of(path) == expected


MANY = [
    "README.md",
    "PALO-7B-Q4_0.gguf",
    "PALO-7B-Q4_K_M.gguf",
    "PALO-7B-Q8_0.gguf",
    "PALO-7B-F16.gguf",
    "mmproj-PALO-7B-F16.gguf",
    "mmproj-PALO-7B-Q8_0.gguf",
]


@pytest.mark.parametrize(
    ("outtype", "text", "mmproj"),
    [
        (None, "PALO-7B-Q4_K_M.gguf", "mmproj-PALO-7B-Q8_0.gguf"),
        ("q8_0", "PALO-7B-Q8_0.gguf", "mmproj-PALO-7B-Q8_0.gguf"),
        ("F16", "PALO-7B-F16.gguf", "mmproj-PALO-7B-F16.gguf"),
        ("Q4_0", "PALO-7B-Q4_0.gguf", "mmproj-PALO-7B-Q8_0.gguf"),
    ],
)
def test_pair_of_nearest_types(outtype, text, mmproj):
    chosen = choose_files("r", MANY, outtype)
    assert (chosen.text, chosen.mmproj) == (text, mmproj)


def test_choices():
    assert choose_files("r", ["a-F16.gguf", "a-Q5_K_M.gguf"], None).paths == ("a-Q5_K_M.gguf",)
    in_folders = ["a/x-Q4_0.gguf", "a/mmproj-F16.gguf", "b/x-Q8_0.gguf", "b/mmproj-F16.gguf", "mmproj-Q8_0.gguf"]
    assert choose_files("r", in_folders, "Q8_0").paths == ("b/x-Q8_0.gguf", "b/mmproj-F16.gguf")
    with pytest.raises(ArgumentError, match="r:Q2_K: expected one of F16, Q4_0, Q4_K_M, Q8_0, got Q2_K"):
        choose_files("r", MANY, "Q2_K")
    with pytest.raises(ModelNotFoundError, match="r: expected GGUF files, got none"):
        choose_files("r", ["pytorch_model.bin", "mmproj-F16.gguf"], None)


def test_palo_fetches_and_answers(hub, cache, on_hub, picture):
    with Palo(NAME, n_threads=1) as palo:
        assert palo.ask(picture, "?", max_tokens=3).text is not None
        assert palo.files.text.path.is_relative_to(cache)
    served = hub.n_bytes_served()
    assert served == sum(path.stat().st_size for path in on_hub.values())
    Palo(NAME, n_threads=1, local_files_only=True).close()
    assert hub.n_bytes_served() == served


@pytest.mark.usefixtures("on_hub")
def test_what_hf_downloaded_is_opened_offline(hub, monkeypatch):
    snapshot_download(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    n_requests = len(hub.requests)
    Palo(NAME, n_threads=1).close()
    assert len(hub.requests) == n_requests


@pytest.mark.usefixtures("on_hub")
def test_nothing_is_fetched_where_it_must_not(hub, monkeypatch):
    for model in (NAME, f"{NAME}:F16"):
        with pytest.raises(
            ModelNotFoundError, match=f"nothing may be fetched here; .* run `palo-cpp pull {model}` first"
        ):
            Palo(model, local_files_only=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFoundError, match="HF_HUB_OFFLINE is set; check the path, or run"):
        Palo(NAME)
    assert hub.requests == []


@pytest.mark.usefixtures("on_hub")
def test_a_folder_of_that_name_comes_first(hub, model_dir):
    Path("org").mkdir()
    (Path("org") / "small").symlink_to(model_dir)
    assert find_model(NAME, HubOptions()).text.path.parent == Path("org/small")
    assert hub.requests == []


@pytest.mark.usefixtures("on_hub")
def test_another_folder_and_revision(hub, cache, tmp_path):
    commit = hub.repositories[NAME].commit
    options = HubOptions(download_root=tmp_path / "models", revision=commit)
    bring(NAME, options)
    assert find_model(NAME, options).text.path.is_relative_to(tmp_path / "models")
    assert not cache.exists()
    with pytest.raises(DownloadError, match="no such revision"):
        bring(NAME, HubOptions(revision="v9"))


def test_a_repository_without_mmproj(hub, on_hub):
    text = next(name for name in on_hub if not name.startswith("mmproj"))
    hub.add(NAME, {text: on_hub[text]})
    bring(NAME, HubOptions())
    with pytest.raises(ModelNotFoundError, match=r"expected mmproj-\*\.gguf beside it, got none"):
        find_model(NAME, HubOptions())
