"""Every error that palo_cpp raises on purpose; all derive from `PaloError`.

Messages read `<what>: expected X, got Y; <how to fix it>` and fit on one line: the CLI prints them as they are.
Each class also derives from the built-in error that a caller would expect.
"""


class PaloError(Exception):
    """Base of all errors that palo_cpp raises on purpose."""


class ArgumentError(PaloError, ValueError):
    """An argument has a value that cannot be used."""


class ModelNotFoundError(PaloError, FileNotFoundError):
    """A model, or one file of it, is not where it was looked for."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ModelFormatError(PaloError, ValueError):
    """A checkpoint or GGUF file is damaged, incomplete, hostile or of an unknown kind."""


class ImageError(PaloError, ValueError):
    """An image cannot be read."""


class SessionError(PaloError, ValueError):
    """A session file is missing, damaged, hostile or of a later version."""


class OutOfMemoryError(PaloError, MemoryError):
    """The model would not fit into this machine's memory, so nothing was loaded."""


class DownloadError(PaloError, OSError):
    """A model could not be fetched from the hub, or what came is not what the hub promised."""


class AnswerStopped(PaloError):  # noqa: N818 - nothing went wrong
    """An answer was ended from another thread while it was being decoded; nobody sees this but what decodes it."""


class BusyError(PaloError):
    """As many answers are under way, and as many questions wait, as the model was loaded for.

    Attributes:
        retry_after_s: when there will probably be room.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
