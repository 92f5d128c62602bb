"""What the environment says, as `huggingface_hub` reads it: endpoint, cache, token, offline; asked at each use."""

from __future__ import annotations

from pathlib import Path

from palo_cpp.errors import DownloadError


def endpoint() -> str:
    """Address of the hub, without a slash at its end: HF_ENDPOINT."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def cache_folder(download_root: str | Path | None = None) -> Path:
    """The folder of the cache: the one given, else HF_HUB_CACHE, else the one in HF_HOME."""
    from huggingface_hub import constants

    return Path(download_root or constants.HF_HUB_CACHE).expanduser()


def token_or_none(token: str | bool | None = None) -> str | None:
    """The token given, or with None the one of HF_TOKEN or `hf auth login`; False sends none."""
    from huggingface_hub import get_token

    if isinstance(token, str):
        return token
    return None if token is False else get_token()


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids every connection."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def check_online(what: str) -> None:
    """Refuse before a socket is opened.

    Raises:
        DownloadError: HF_HUB_OFFLINE is set.
    """
    if is_offline():
        raise DownloadError(f"{what}: could not be fetched: HF_HUB_OFFLINE is set; unset it, or pull it beforehand")


def timeout_s() -> float:
    """Seconds without a byte after which a connection counts as lost: HF_HUB_DOWNLOAD_TIMEOUT."""
    from huggingface_hub import constants

    return float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
