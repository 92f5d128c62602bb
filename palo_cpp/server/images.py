"""Images of a request, in every form that clients send them, as the bytes of image files.

An image is a data URI, base64, or where the server allows it an https address; as text or as an object with `url`. It
is never a path: no text of a request is given to anything that opens files.
"""

from __future__ import annotations

import base64
import binascii
import re
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any

from palo_cpp.server.fields import Fields, kind_of
from palo_cpp.server.refusals import Refusal, bad_field
from palo_cpp.server.settings import Limits

_SCHEME = re.compile(r"\s*([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_FORMS = "an image as a data URI (data:image/jpeg;base64,...), as base64"
# Clients say how closely to look; a tower of one size always looks as closely as it can.
_DETAILS = ("auto", "low", "high", "original")

Fetch = Callable[[str], bytes]


class ImageReader:
    """Turns the forms into bytes.

    Args:
        limits: what is too large.
        fetch: gets the image at an https address; None where the server fetches nothing.
    """

    def __init__(self, limits: Limits, fetch: Fetch | None) -> None:
        self._limits = limits
        self._fetch = fetch

    def referred(self, value: Any, where: str) -> str:
        """Check what a request has for an image, without decoding it.

        Args:
            value: text, or an object with `url`.
            where: the field that it came in.

        Returns:
            The text that holds or names it.
        """
        if isinstance(value, dict):
            fields = Fields(value, where)
            text = fields.needed_text("url")
            fields.only({"detail": _DETAILS})
            fields.end()
        elif isinstance(value, str):
            text = value
        else:
            raise bad_field(where, f"{_FORMS}, or an object with url", kind_of(value))
        scheme = (match[1].lower() if (match := _SCHEME.match(text)) else "").strip()
        if scheme == "https" and self._fetch is None:
            raise bad_field(where, _FORMS, "an address", "this server fetches nothing; --allow-urls lets it")
        if scheme not in ("", "data", "https"):
            more = ", or an https address" if self._fetch else ""
            raise bad_field(where, f"{_FORMS}{more}", f"{scheme}:", "send the image itself")
        return text

    def read(self, texts: Iterable[str]) -> list[bytes]:
        """The image files; addresses are fetched.

        Raises:
            Refusal: one of them is none, or too large.
        """
        return [self._read(text) for text in texts]

    @staticmethod
    def is_fetched(text: str) -> bool:
        """Whether an image is to be fetched, which takes a while."""
        scheme = _SCHEME.match(text)
        return scheme is not None and scheme[1].lower() == "https"

    def _read(self, text: str) -> bytes:
        scheme = _SCHEME.match(text)
        if self.is_fetched(text):
            assert self._fetch is not None  # `referred` comes first
            data = self._fetch(text.strip())
        elif scheme:
            data = self._decoded_uri(text.strip())
        else:
            data = self._decoded(text)
        if not data:
            raise bad_field("image", _FORMS, "nothing")
        if len(data) > self._limits.image_bytes:
            raise self._too_large()
        return data

    def _decoded_uri(self, uri: str) -> bytes:
        """RFC 2397: data:[<media type>][;base64],<data>."""
        header, comma, body = uri[5:].partition(",")
        kind, *parameters = (part.strip().lower() for part in header.split(";"))
        if not comma or not kind.startswith("image/"):
            raise bad_field("image", _FORMS, "a data URI of something else")
        return self._decoded(body) if "base64" in parameters else urllib.parse.unquote_to_bytes(body)

    def _decoded(self, text: str) -> bytes:
        if len(text) > 2 * self._limits.image_bytes:
            raise self._too_large()
        try:
            return base64.b64decode(text, validate=True)  # as most clients write it
        except (binascii.Error, ValueError):
            return self._decoded_freely(text)

    def _decoded_freely(self, text: str) -> bytes:
        if "%" in text:
            text = urllib.parse.unquote(text, errors="replace")
        # Both alphabets of RFC 4648, with padding or without, with line breaks or without.
        data = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
        try:
            return base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise bad_field("image", _FORMS, "text that is neither") from None

    def _too_large(self) -> Refusal:
        n_mib = self._limits.image_bytes >> 20
        return Refusal(413, f"image: expected at most {n_mib} MiB, got more; make it smaller", param="image")
