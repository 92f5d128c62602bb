"""From what the user names to the checked files of one model: text model and mmproj."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palo_cpp.errors import ArgumentError, ModelFormatError, ModelNotFoundError
from palo_cpp.families.family import Family
from palo_cpp.families.registry import family_of
from palo_cpp.ggml.gguf_header import GgufHeader, read_header
from palo_cpp.models.hub_models import CACHE_ONLY, HubOptions, hub_model
from palo_cpp.models.names import NANO, NANO_FOLDER, hub_name

MMPROJ_PREFIX = "mmproj-"
_CHECKPOINT_FILES = ("*.safetensors", "*.bin", "*.safetensors.index.json", "*.bin.index.json")


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model.

    Attributes:
        family: what it belongs to.
        text: header of the language model's file.
        mmproj: header of the file of vision tower and projector; None where the model has none.
    """

    family: Family
    text: GgufHeader
    mmproj: GgufHeader | None

    @property
    def name(self) -> str:
        """The model's name, as its file has it."""
        return str(self.text.metadata.get("general.name", self.text.path.stem))


def find_model(model: str | Path, hub: HubOptions = CACHE_ONLY) -> ModelFiles:
    """Find the pair of files that a model is made of, and check that they belong together.

    Args:
        model: "nano" for the demo that comes with the package (a folder of that name is `./nano`), a folder, either
            of the two GGUF files, or a repository of the hub: `ORG/NAME`, `ORG/NAME:Q4_K_M`.
        hub: how names of the hub are looked up; by default only in the cache.

    Returns:
        Headers of both.

    Raises:
        ModelNotFoundError: nothing there, or one of the two is missing.
        DownloadError: it could not be fetched.
        ModelFormatError: a file is damaged, or the two were not made together.
        ArgumentError: several models, and nothing says which.
    """
    path = model_path(model)
    if "\0" in str(path) or not str(model):
        raise ArgumentError(f"model: expected a folder or a GGUF file, got {str(model)!r}")
    if path.is_dir():
        return model_files(*_pair_in(path))
    if path.is_file():
        return model_files(*_pair_of(read_header(path)))
    if isinstance(model, str) and (name := hub_name(model)) is not None:
        paths = hub_model(name, hub)
        return model_files(read_header(paths.text), None if paths.mmproj is None else read_header(paths.mmproj))
    raise ModelNotFoundError(
        f"model {model}: expected a folder, a GGUF file or ORG/NAME on the hub, got nothing there; check the path"
    )


def model_path(model: str | Path) -> Path:
    """Where the model lies that a user names; perhaps nothing is there."""
    return NANO_FOLDER if model == NANO else Path(model).expanduser()


def model_files(text: GgufHeader, mmproj: GgufHeader | None) -> ModelFiles:
    """The files of one model, after checking that they belong together.

    Raises:
        ModelFormatError: a file is damaged, of no known family, or the two were not made together.
    """
    family = family_of(text)
    if family.mmproj == "none":
        mmproj = None
    if mmproj is not None:
        _check_pair(text, mmproj)
    elif family.mmproj == "needed":
        raise _half_missing(text)
    return ModelFiles(family, text, mmproj)


def check_widths(files: ModelFiles, *, n_embd: int, n_embd_image: int) -> None:
    """Refuse an mmproj file whose image embeddings do not fit into the text model.

    Args:
        files: of the model.
        n_embd: width of the text model.
        n_embd_image: width of an image embedding.

    Raises:
        ModelFormatError: they differ.
    """
    if n_embd != n_embd_image and files.mmproj is not None:
        raise ModelFormatError(
            f"{files.mmproj.path.name}: expected image embeddings of width {n_embd} for {files.text.path.name}, got "
            f"{n_embd_image}; put the mmproj file of this model there"
        )


def _pair_in(folder: Path) -> tuple[GgufHeader, GgufHeader | None]:
    paths = sorted(path for path in folder.glob("*.gguf") if path.is_file())
    texts = [path for path in paths if not path.name.startswith(MMPROJ_PREFIX)]
    if not paths:
        raise _no_gguf(folder)
    if not texts:
        raise ModelNotFoundError(
            f"{folder}: expected a text model beside {paths[0].name}, got none; put it there or convert again"
        )
    if len(texts) > 1:
        raise ArgumentError(
            f"{folder}: expected one model, got {_listed(texts)}; give the path of one of them instead of the folder"
        )
    return _pair_of(read_header(texts[0]))


def _no_gguf(folder: Path) -> ModelNotFoundError:
    is_checkpoint = (folder / "config.json").is_file() or any(any(folder.glob(name)) for name in _CHECKPOINT_FILES)
    if is_checkpoint:
        target = folder.resolve().with_name(f"{folder.resolve().name}-gguf")
        return ModelNotFoundError(
            f"{folder}: expected GGUF files, got a checkpoint; "
            f"run `palo-cpp convert {folder} -o {target}` and give {target}"
        )
    return ModelNotFoundError(
        f"{folder}: expected a text model and its mmproj file, got no GGUF file; "
        f"make them with `palo-cpp convert CHECKPOINT -o {folder}`"
    )


def _pair_of(header: GgufHeader) -> tuple[GgufHeader, GgufHeader | None]:
    """The file and its other half, which lies beside it."""
    others = [path for path in sorted(header.path.parent.glob("*.gguf")) if path.name != header.path.name]
    is_mmproj = [path.name.startswith(MMPROJ_PREFIX) for path in others]
    wanted = [path for path, other_is in zip(others, is_mmproj, strict=True) if other_is != header.is_mmproj]
    if not wanted and not header.is_mmproj and family_of(header).mmproj != "needed":
        return header, None
    if not wanted:
        raise _half_missing(header)
    other = _chosen(header, [read_header(path) for path in wanted])
    return (other, header) if header.is_mmproj else (header, other)


def _half_missing(header: GgufHeader) -> ModelNotFoundError:
    if header.is_mmproj:
        return ModelNotFoundError(
            f"{header.path.name}: expected the text model beside it, got none in {header.path.parent}; put it there"
        )
    return ModelNotFoundError(
        f"{header.path.name}: expected {MMPROJ_PREFIX}*.gguf beside it, got none in {header.path.parent}; "
        "put the mmproj file of this model there, or convert the checkpoint again"
    )


def _chosen(header: GgufHeader, candidates: Sequence[GgufHeader]) -> GgufHeader:
    """One candidate: the only one, or the only one made together with the file."""
    if header.pair_id is not None:
        same = [candidate for candidate in candidates if candidate.pair_id == header.pair_id]
        candidates = same or candidates
    if len(candidates) > 1:
        names = _listed([candidate.path for candidate in candidates])
        raise ArgumentError(
            f"{header.path.name}: expected one file to go with it, got {names}; leave only the one that belongs to it"
        )
    return candidates[0]


def _check_pair(text: GgufHeader, mmproj: GgufHeader) -> None:
    if not mmproj.is_mmproj:
        raise ModelFormatError(
            f"{mmproj.path.name}: expected vision tower and projector (architecture clip), got architecture "
            f"{mmproj.metadata.get('general.architecture')!r}; put the right mmproj file beside {text.path.name}"
        )
    if text.pair_id and mmproj.pair_id and text.pair_id != mmproj.pair_id:
        raise ModelFormatError(
            f"{mmproj.path.name}: expected the mmproj file made together with {text.path.name}, got one of another "
            "checkpoint (palo.pair_id differs); put the right one there, or convert the checkpoint again"
        )


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)
