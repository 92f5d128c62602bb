"""Which files of a checkpoint's repository its conversion needs."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

_SMALL = (
    "config.json",
    "adapter_config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",  # of CPM-Bee
    "README.md",  # names the licence
)
_ADAPTER = ("adapter_model", "non_lora_trainables", "mm_projector")
_WHOLE = ("model.safetensors", "pytorch_model.bin")
_INDEX = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def configuration_files(paths: Iterable[str]) -> list[str]:
    """Small files that say what else is needed."""
    there = set(paths)
    return [path for path in _SMALL if path in there]


def variant_files(paths: Iterable[str], pattern: str) -> list[str]:
    """Weights of one of several checkpoints at the top of the repository, by a pattern of names."""
    return sorted(path for path in paths if "/" not in path and fnmatchcase(path, pattern))


def weight_files(paths: Iterable[str]) -> list[str]:
    """Weights at the top of the repository: safetensors where there are both forms, and adapters beside them."""
    there = sorted(path for path in paths if "/" not in path)
    shards = {ending: [p for p in there if _is_weight(p, ending)] for ending in (".safetensors", ".bin")}
    main = shards[".safetensors"] or shards[".bin"]
    main = [path for path in _WHOLE if path in main] or main  # beside it lie other versions of the model
    index = [path for path in _INDEX if path in there and main and path.split(".")[1] in main[0]]
    return [*_adapters(there), *index, *main]


def _is_weight(path: str, ending: str) -> bool:
    return path.startswith(("model", "pytorch_model")) and path.endswith(ending)


def _adapters(paths: list[str]) -> list[str]:
    by_stem = {stem: [p for p in paths if p in (f"{stem}.safetensors", f"{stem}.bin")] for stem in _ADAPTER}
    return [found[-1] for found in by_stem.values() if found]  # .safetensors after .bin
