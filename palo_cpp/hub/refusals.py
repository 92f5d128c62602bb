"""What a hub's refusals mean, and what to do about them."""

from __future__ import annotations

import email.utils
import random
import time
from dataclasses import dataclass, field

from palo_cpp.errors import DownloadError
from palo_cpp.hub.settings import endpoint

_MOST_TRIES = 8
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_LONGEST_WAIT_TOLD_S = 600.0
TEMPORARY = (408, 425, 429, 500, 502, 503, 504)


class TemporaryFailureError(Exception):
    """Something that may go better later.

    Args:
        reason: what happened, as the end of a sentence.
        wait_s: seconds that the hub asks to wait; None where it does not say.
        most_tries: failures in a row after which it is given up.
        fix: what the user can do then.
    """

    def __init__(
        self,
        reason: str,
        wait_s: float | None = None,
        *,
        most_tries: int = _MOST_TRIES,
        fix: str = "try again later, what has arrived is kept",
    ) -> None:
        super().__init__(reason)
        self.wait_s, self.most_tries, self.fix = wait_s, most_tries, fix


@dataclass
class Retries:
    """Counts failures in a row.

    Attributes:
        what: is fetched; for the message.
        n_failed: failures since the last progress.
    """

    what: str
    n_failed: int = field(default=0)

    def wait_s(self, failure: TemporaryFailureError) -> float:
        """Seconds to wait before the next try: what the hub asks for, else twice the last; with jitter.

        Raises:
            DownloadError: it failed too often, or the hub asks for too long a wait.
        """
        self.n_failed += 1
        asked = failure.wait_s
        if self.n_failed >= failure.most_tries or (asked is not None and asked > _LONGEST_WAIT_TOLD_S):
            told = f", which asks to wait {asked:.0f} s" if asked else ""
            raise DownloadError(f"{self.what}: could not be fetched: {failure}{told}; {failure.fix}")
        # Jitter only adds: many clients that were all told "in 60 s" must not come back together, nor before.
        longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (self.n_failed - 1))
        return (asked or 0.0) + random.uniform(0.5, 1.0) * longest


def wait_asked_for(retry_after: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number or a date."""
    if not retry_after:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None


def check_status(status: int, retry_after: str | None, what: str) -> None:
    """Single out what may go better later.

    Raises:
        TemporaryFailureError: the hub is busy, broken for the moment, or limits the rate.
    """
    if status in TEMPORARY:
        reason = "it limits the rate of requests" if status == 429 else "it cannot answer now"
        raise TemporaryFailureError(f"the hub answers {what} with {status}: {reason}", wait_asked_for(retry_after))


def refusal(status: int, code: str | None, what: str, repository: str, *, has_token: bool) -> DownloadError:
    """The sentence for an answer that trying again would not change.

    Args:
        status: HTTP status.
        code: the header X-Error-Code of the hub.
        what: was asked for.
        repository: it belongs to.
        has_token: whether a token was sent.
    """
    page = f"{endpoint()}/{repository}"
    log_in = "set HF_TOKEN to a token of yours, or run `hf auth login`"
    if code == "GatedRepo":
        fix = f"accept its terms at {page}" + ("" if has_token else f", then {log_in}")
        return DownloadError(f"{what}: could not be fetched: {repository} is gated; {fix}")
    if code in ("RevisionNotFound", "EntryNotFound"):
        missing = "revision" if code == "RevisionNotFound" else "file"
        return DownloadError(f"{what}: could not be fetched: {repository} has no such {missing}; look at {page}")
    if status == 401 and has_token and code != "RepoNotFound":
        return DownloadError(f"{what}: could not be fetched: the hub does not accept the token; {log_in}")
    if code == "RepoNotFound" or status in (401, 404):
        private = "check the account that HF_TOKEN belongs to" if has_token else f"if it is private, {log_in}"
        return DownloadError(f"{what}: could not be fetched: no repository {repository}; check its name; {private}")
    if status == 403:
        return DownloadError(f"{what}: could not be fetched: access is denied (403); ask for it at {page}, or {log_in}")
    return DownloadError(f"{what}: could not be fetched: the hub answers with {status}; try again later")
