"""The options that several commands share, spelled as llama.cpp spells them, each with its environment variable."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar

import click
from click.types import StringParamType

from palo_cpp.cli.model_names import NAMES, NamingOption
from palo_cpp.decoding.options import DEFAULT_LANG_MODE, LANG_MODES
from palo_cpp.errors import ArgumentError
from palo_cpp.languages.languages import get_language

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class ModelOptions:
    """Which model to load, and how."""

    model: str
    n_threads: int
    n_ctx: int
    preprocess: Literal["pad", "crop"] | None
    vision_precision: Literal["int8", "float"]
    backend: Literal["auto", "palo", "cpu"]
    draft: str | None
    embedding_cache: str | None


@dataclass(frozen=True)
class SamplingOptions:
    """How to choose tokens; None leaves it to the library."""

    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    seed: int | None
    stop: tuple[str, ...]
    lang_mode: str | None
    n_beams: int | None

    def given(self) -> dict[str, Any]:
        """What the user asked for, by the names of `Palo.stream`."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}


def to_code(_ctx: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    """Turn the name of a language into its code."""
    try:
        return None if name is None else get_language(name).code
    except ArgumentError as error:
        raise click.BadParameter(str(error)) from error


def to_codes(ctx: click.Context, parameter: click.Parameter, names: str) -> list[str] | None:
    """Turn names with commas between them into codes, each once; `all` into None: all that the model has."""
    if names.strip().casefold() == "all":
        return None
    # Who types Arabic, Urdu or Chinese has these commas on the keyboard.
    each = filter(str.strip, re.split("[,،、，]", names))
    codes = [code for name in each if (code := to_code(ctx, parameter, name))]
    if not codes:
        raise click.BadParameter("expected at least one language")
    return list(dict.fromkeys(codes))


class StopType(StringParamType):
    """A stop string; an environment variable may hold several, one to a line."""

    envvar_list_splitter = "\n"


def option(*names: str, env: str, **attributes: Any) -> Callable[[Function], Function]:
    """Make an option that `PALO_CPP_<env>` sets too, as its help says."""
    return click.option(*names, envvar=f"PALO_CPP_{env}", show_envvar=True, **attributes)


model_option = option(
    *("-m", "--model"),
    env="MODEL",
    default="nano",
    show_default="nano, the demo, which knows simple drawings only",
    metavar="MODEL",
    cls=NamingOption,
    help=f"nano, {NAMES}, ORG/NAME[:TYPE] on the hub, a folder that `palo-cpp convert` wrote, or a GGUF file.",
)

backend_option = option(
    "--backend",
    env="BACKEND",
    type=click.Choice(["auto", "palo", "cpu"]),
    default="auto",
    show_default=True,
    help="Kernels of the language model: palo_cpp's where they are faster, wherever they can, or llama.cpp's alone.",
)

draft_option = option(
    "--draft",
    env="DRAFT",
    default=None,
    metavar="PATH",
    help="Folder or GGUF file of a smaller model of the same family that guesses ahead, in one answer at a time.",
)

threads_option = option(
    *("-t", "--threads", "n_threads"),
    env="THREADS",
    type=click.IntRange(0, 512),
    default=0,
    show_default="the physical cores this process may use",
    metavar="N",
    help="How many threads compute. Work goes to whichever core is free, so a core of half the speed helps; one below "
    "a quarter is left out by default. With fewer threads, other programs keep cores.",
)

_MODEL = (
    model_option,
    threads_option,
    option(
        *("-c", "--ctx-size", "n_ctx"),
        env="CTX_SIZE",
        type=click.IntRange(min=0),
        default=0,
        show_default="what the model was trained with, 4096 at most",
        metavar="N",
        help="Context size in tokens: image, questions and answers together.",
    ),
    option(
        "--preprocess",
        env="PREPROCESS",
        type=click.Choice(["pad", "crop"]),
        default=None,
        show_default="what the model asks for",
        help="Make the image square by padding it, or by cutting off its longer side.",
    ),
    option(
        "--vision-precision",
        env="VISION_PRECISION",
        type=click.Choice(["int8", "float"]),
        default="int8",
        show_default=True,
        help="Arithmetic of the vision encoder; float is slower and takes more memory.",
    ),
    backend_option,
    draft_option,
    option(
        "--embedding-cache",
        env="EMBEDDING_CACHE",
        default=None,
        metavar="DIR",
        help="Keep what the vision encoder makes of images in DIR, 4 GiB at most, so that each is encoded once.",
    ),
)

_SAMPLING = (
    option(
        *("-n", "--predict", "--n-predict", "--max-tokens", "max_tokens"),
        env="PREDICT",
        type=click.IntRange(min=1),
        default=None,
        show_default="1024; 514 for VisCPM",
        metavar="N",
        help="The longest answer, in tokens.",
    ),
    option(
        *("--temp", "--temperature", "temperature"),
        env="TEMP",
        type=click.FloatRange(min=0.0),
        default=None,
        show_default="0: always the likeliest token",
        metavar="X",
        help="Temperature of sampling.",
    ),
    option(
        "--top-k",
        env="TOP_K",
        type=click.IntRange(min=0),
        default=None,
        metavar="N",
        help="Sample among the N likeliest tokens; 0 is all.",
    ),
    option(
        "--top-p",
        env="TOP_P",
        type=click.FloatRange(min=0.0, max=1.0),
        default=None,
        metavar="X",
        help="Sample among the likeliest tokens that together have probability X.",
    ),
    option(
        "--min-p",
        env="MIN_P",
        type=click.FloatRange(min=0.0, max=1.0),
        default=None,
        metavar="X",
        help="Sample among tokens at least X times as likely as the likeliest.",
    ),
    option(
        *("-s", "--seed"), env="SEED", type=click.IntRange(min=0), default=None, metavar="N", help="Seed of sampling."
    ),
    option(
        "--stop",
        env="STOP",
        type=StopType(),
        multiple=True,
        metavar="TEXT",
        help="End the answer before this text; may be given several times.",
    ),
    option(
        *("--beams", "n_beams"),
        env="BEAMS",
        type=click.IntRange(min=1),
        default=None,
        show_default="what the model does: 3 for VisCPM, 1 for PALO",
        metavar="N",
        help="Search N answers side by side for the likeliest; 1 chooses token by token, as --temp and a schema do.",
    ),
    option(
        "--lang-mode",
        env="LANG_MODE",
        type=click.Choice(LANG_MODES),
        default=None,
        show_default=f"{DEFAULT_LANG_MODE}: its script, and names in others",
        help="How --lang is kept: only the language's script, also names and quoted words, or by the request alone.",
    ),
)

language_option = option(
    *("--lang", "language"),
    env="LANG",
    callback=to_code,
    default=None,
    metavar="LANGUAGE",
    help="Language of the answer, by code, English name or own name: hi, Hindi, हिन्दी.",
)

json_option = option("--json", "as_json", env="JSON", is_flag=True, help="Print one JSON object instead of text.")

bidi_option = option(
    "--bidi",
    env="BIDI",
    type=click.Choice(["auto", "visual", "off"]),
    default="auto",
    show_default=True,
    help="Right-to-left answers on a terminal: as this one seems to need them, ordered by palo-cpp, or left alone.",
)

timings_option = option(
    "--show-timings/--no-show-timings",
    env="SHOW_TIMINGS",
    default=True,
    show_default=True,
    help="After an answer, say on stderr what it cost, if stderr is a terminal.",
)


def model_options(function: Function) -> Function:
    """Add the options about the model; the function gets them as `model: ModelOptions`."""
    return _gathered(function, ModelOptions, "model", _MODEL)


def sampling_options(function: Function) -> Function:
    """Add the options about sampling; the function gets them as `sampling: SamplingOptions`."""
    return _gathered(function, SamplingOptions, "sampling", _SAMPLING)


def _gathered(function: Function, kind: type, name: str, options: tuple[Callable[[Any], Any], ...]) -> Function:
    @functools.wraps(function)
    def gather(*args: Any, **kwargs: Any) -> Any:
        values = {field.name: kwargs.pop(field.name) for field in fields(kind)}
        return function(*args, **kwargs, **{name: kind(**values)})

    decorated: Any = gather
    for decorate in reversed(options):
        decorated = decorate(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators return what they were given


def _remember_debug(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        ctx.find_root().command.begin_debugging()  # type: ignore[attr-defined]  # the root is a CommandGroup


debug_option = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_remember_debug,
    help="Log what happens, and show the traceback of a failure.  [env var: PALO_CPP_DEBUG]",
)
