"""A repository that has GGUF files: one model of them is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palo_cpp.hub.speed import measured_speed
from palo_cpp.models.file_choice import choose_files, outtype_of
from palo_cpp.models.hub_models import ModelPaths
from palo_cpp.models.names import HubName
from palo_cpp.pull.plan import DownloadPlan, PullPlan, Watch

if TYPE_CHECKING:
    from palo_cpp.hub.repository import Repository


class GgufPull:
    """See `pulling.Pull`.

    Args:
        repository: with GGUF files.
        name: of the model; its type chooses among several.

    Raises:
        ArgumentError: the repository has no model of that type.
    """

    def __init__(self, repository: Repository, name: HubName) -> None:
        self._repository = repository
        self._chosen = choose_files(name.repository, repository.files, name.outtype)
        download = DownloadPlan(repository, [repository.files[path] for path in self._chosen.paths])
        self.plan = PullPlan(
            name=HubName(name.repository, outtype_of(self._chosen.text) or None),
            downloads=(download,),
            folder=repository.cached.folder,
            n_bytes_result=0,
            n_bytes_peak=download.n_bytes_missing,
            n_bytes_memory=download.n_bytes,
            measure=lambda: measured_speed(repository, self._chosen.text),
        )

    def run(self, watch: Watch) -> ModelPaths:
        """Fetch both files."""
        from palo_cpp.hub.repository import fetch

        text, *mmproj = fetch(self._repository, self._chosen.paths, watch.download)
        return ModelPaths(text, mmproj[0] if mmproj else None)
