"""Names of models: those of each family, and repositories of the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from palo_cpp.errors import ArgumentError
from palo_cpp.families.palo.published import PUBLISHED as PALO_MODELS
from palo_cpp.families.published import PublishedModel
from palo_cpp.families.viscpm.published import PUBLISHED as VISCPM_MODELS
from palo_cpp.hub.cache import is_repository_name

# PALO-Nano, the demo that comes with the package (nano/ trains it).
NANO = "nano"
NANO_FOLDER = Path(__file__).parents[1] / "shipped" / NANO
_OUTTYPE = re.compile(r"[A-Za-z0-9_-]{1,24}")


# Name that users give -> model: the tables of all families.
PUBLISHED: dict[str, PublishedModel] = {**PALO_MODELS, **VISCPM_MODELS}


@dataclass(frozen=True)
class HubName:
    """A repository of the hub, and which of its models.

    Attributes:
        repository: ORG/NAME.
        outtype: type of the language model's weights, in capitals; None where the user does not say.
        variant: which of several checkpoints in the repository; "" is the main one.
    """

    repository: str
    outtype: str | None = None
    variant: str = ""

    def __str__(self) -> str:
        name = self.repository
        if self.variant:
            alike = (known for known, model in PUBLISHED.items() if _is(model, self.repository, self.variant))
            name = next(alike, self.local)
        return name + (f":{self.outtype}" if self.outtype else "")

    @property
    def local(self) -> str:
        """What its files here are kept under: ORG/NAME, or ORG/NAME/VARIANT."""
        return self.repository + (f"/{self.variant}" if self.variant else "")

    @property
    def title(self) -> str:
        """What files of it are called: NAME, or NAME-VARIANT."""
        return self.local.partition("/")[2].replace("/", "-")


def hub_name(model: str) -> HubName | None:
    """The repository that `7b` or `ORG/NAME[:Q4_K_M]` names; None where a text has neither form."""
    repository, colon, outtype = model.partition(":")
    variant = ""
    if repository in PUBLISHED:
        repository, variant = PUBLISHED[repository].checkpoint, PUBLISHED[repository].variant
    if not is_repository_name(repository) or repository.endswith(".gguf"):
        return None
    if colon and not _OUTTYPE.fullmatch(outtype):
        return None
    return HubName(repository, outtype.upper() if colon else None, variant)


def local_name(local: str, outtype: str | None = None) -> HubName:
    """The model whose `HubName.local` this is."""
    organization, name, *variant = local.split("/", 2)
    return HubName(f"{organization}/{name}", outtype, "".join(variant))


def hub_name_or_error(model: str) -> HubName:
    """The repository that a text names.

    Raises:
        ArgumentError: it names none.
    """
    if (name := hub_name(model)) is None:
        names = ", ".join(PUBLISHED)
        raise ArgumentError(f"model: expected {names} or ORG/NAME of the hub, got {model[:100]!r}; check the name")
    return name


def published_as(repository: str, variant: str = "") -> PublishedModel | None:
    """What is known about a repository, or about one of the further checkpoints in it."""
    return next((each for each in PUBLISHED.values() if _is(each, repository, variant)), None)


def _is(model: PublishedModel, repository: str, variant: str) -> bool:
    return (model.checkpoint, model.variant) == (repository, variant)
