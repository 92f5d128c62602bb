"""What a published model would need on this machine, and which of them to take.

Arithmetic over sizes and a few measured speeds (`bench.machine_speed` measures them); nothing here touches a machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from palo_cpp.families.published import Evaluation, PublishedModel
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.llm.cpm_bee_sizes import n_cells_of
from palo_cpp.models.memory import memory_of
from palo_cpp.models.names import PUBLISHED
from palo_cpp.models.weight_types import MAIN_TYPES, checked_outtype, decoder_bytes, n_products_per_token

Fit = Literal["yes", "tight", "no"]

# From the smallest; q4_k_m is what `pull` converts to.
OUTTYPES = ("q4_0", "q4_k_m", "q8_0")
_USUAL, _SMALLEST, _LARGEST = "q4_k_m", "q4_0", "q8_0"

# Products of attention are in f32, others in int8: about a third of the speed (SPEED.md, "Peaks and kernels").
_ATTENTION_COST = 3
# The answer's own tokens that its middle sees, of about 100 words in Latin script.
_N_ANSWER_TOKENS = 64
# Vocabulary, keys and tensor table of both files.
_METADATA_BYTES = 1 << 20
_MMPROJ_BYTES_PER_WEIGHT = 2  # F16
# Of the machine's memory, what programs can have where next to nothing else runs.
_USABLE_MEMORY = 0.9

# Patience: a word in two seconds, a minute to the first one. People read about four words in a second.
WORDS_PER_S_MIN = 0.5
FIRST_WORD_S_MAX = 60.0
READING_WORDS_PER_S = 4.0
# Points that a larger model must be better by; less is within what a judge's votes scatter.
POINTS_WORTH_IT = 2.0
# Points of one evaluation are compared, no others: that of most models.
_COMPARED: Evaluation = max(
    (model.evaluation for model in PUBLISHED.values() if not model.variant),
    key=lambda each: sum(model.evaluation == each for model in PUBLISHED.values()),
)
# Below this a score is called weak: MobilePALO's in all but English, French and Spanish are, PALO-7B's are not.
WEAK_SCORE = 40.0


@dataclass(frozen=True)
class MachineSpeed:
    """What was measured of a machine.

    Attributes:
        isa: instruction set of the vision encoder.
        n_threads: threads that computed.
        read: bytes per second of a plain read of memory.
        encode: multiplications per second of the vision encoder.
        prefill: multiplications per second of a prompt, by outtype.
        decode: bytes of weights per second that single tokens are multiplied with, by outtype; of few weights, so that
            caches may hold them.
        layer_s: seconds of a layer and single token beyond that: threads that wait for each other.
        is_noisy: other programs took so much that all of this is estimated from one thread's processor time.
    """

    isa: str
    n_threads: int
    read: float
    encode: float
    prefill: Mapping[str, float]
    decode: Mapping[str, float]
    layer_s: float = 0.0
    is_noisy: bool = False


@dataclass(frozen=True)
class Prediction:
    """What a model would need, and how long it would take.

    Attributes:
        memory_bytes: to run with the context that the model gets where the user names none.
        disk_bytes: of both files.
        first_word_s: seconds from the question about an image to the answer's first word; the model is loaded.
        words_per_s: words of the answer per second after it, without what right guesses save.
    """

    memory_bytes: int
    disk_bytes: int
    first_word_s: float
    words_per_s: float


@dataclass(frozen=True)
class Candidate:
    """One model as one type, on one machine, for one language.

    Attributes:
        name: as users call it.
        outtype: of the language model's weights.
        fit: "yes", "tight" where it fits when other programs are closed, or "no".
        prediction: what it would need.
        score: points of 100 in the paper.
    """

    name: str
    outtype: str
    fit: Fit
    prediction: Prediction
    score: float

    @property
    def is_patient(self) -> bool:
        """Whether an answer comes before people give up."""
        found = self.prediction
        return found.words_per_s >= WORDS_PER_S_MIN and found.first_word_s <= FIRST_WORD_S_MAX

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        needs = self.prediction
        return {
            "model": self.name,
            "outtype": self.outtype,
            "fits": self.fit,
            "memory_bytes": needs.memory_bytes,
            "disk_bytes": needs.disk_bytes,
            "first_word_s": round(needs.first_word_s, 2),
            "words_per_s": round(needs.words_per_s, 3),
            "score": round(self.score, 2),
        }


@dataclass(frozen=True)
class Recommendation:
    """Which model to take on a machine, for a language.

    Attributes:
        speed: of the machine.
        available, total: bytes of its memory; None where it does not say.
        language: code; None is the average over a model's languages.
        candidates: all models that know the language.
        chosen: the one to take; None where nothing fits.
        others: models that know it too, whose points come from other questions or judges: they cannot be compared.
    """

    speed: MachineSpeed
    available: int | None
    total: int | None
    language: str | None
    candidates: tuple[Candidate, ...]
    chosen: Candidate | None
    others: tuple[Candidate, ...] = ()

    @property
    def command(self) -> str | None:
        """What fetches it."""
        return f"palo-cpp pull {self.chosen.name} --outtype {self.chosen.outtype}" if self.chosen else None

    @property
    def language_name(self) -> str | None:
        """In English."""
        return LANGUAGES[self.language].english_name if self.language else None

    @property
    def sources(self) -> tuple[Evaluation, ...]:
        """How the scores came about."""
        return tuple(dict.fromkeys(PUBLISHED[each.name].evaluation for each in self.candidates))

    @property
    def weakness(self) -> str | None:
        """What a user should know of the chosen one and the language; None where there is nothing."""
        if self.chosen is None or self.chosen.score >= WEAK_SCORE:
            return None
        where = f"is weak in {self.language_name}" if self.language else "is weak in most languages"
        return f"it {where} ({self.chosen.score:.1f} of 100)"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        speed = self.speed
        return {
            "language": self.language,
            "machine": {
                "isa": speed.isa,
                "n_threads": speed.n_threads,
                "memory_available_bytes": self.available,
                "memory_total_bytes": self.total,
                "read_bytes_per_s": round(speed.read),
                "is_noisy": speed.is_noisy,
            },
            "models": [each.to_dict() for each in self.candidates],
            "scores_from": [asdict(each) for each in self.sources],
            "other_models": [
                {
                    **each.to_dict(),
                    "score_from": asdict(PUBLISHED[each.name].evaluation),
                    "times_with_n_beams": 1,
                    "n_beams": PUBLISHED[each.name].n_beams,
                }
                for each in self.others
            ],
            "recommended": self.chosen.to_dict() if self.chosen else None,
            "command": self.command,
        }


def memory_and_disk(model: PublishedModel, outtype: str) -> tuple[int, int]:
    """Bytes of memory that a model takes with its default context, and of its files on the disk.

    Raises:
        ArgumentError: an unknown type.
    """
    n_text = sum(decoder_bytes(model.text, checked_outtype(outtype)).values()) + _METADATA_BYTES
    n_disk = n_text + model.vision.n_weights * _MMPROJ_BYTES_PER_WEIGHT
    memory = memory_of(n_text, model.vision.n_weights, model.text, n_ctx=n_cells_of(model.text.n_ctx, model.n_beams))
    return memory.total, n_disk


def predict(model: PublishedModel, outtype: str, speed: MachineSpeed, language: str | None = None) -> Prediction:
    """What a model would need on a machine.

    Args:
        model: one of `names.PUBLISHED`.
        outtype: of the language model's weights, as `q4_k_m`.
        speed: of the machine; where it knows not this type, the slowest that it knows counts.
        language: code; None is the average over the model's languages.

    Raises:
        ArgumentError: an unknown type.
    """
    outtype = checked_outtype(outtype)
    memory_bytes, disk_bytes = memory_and_disk(model, outtype)
    token_s = decode_s(model, outtype, speed)
    n_per_word = model.n_tokens_per_word(language)
    first_word_s = model.vision.n_products / speed.encode + prefill_s(model, outtype, speed) + n_per_word * token_s
    return Prediction(memory_bytes, disk_bytes, first_word_s, 1 / (n_per_word * token_s))


def prefill_s(model: PublishedModel, outtype: str, speed: MachineSpeed) -> float:
    """Seconds to take in a prompt with one image, which is encoded."""
    sizes, n_tokens = model.text, model.n_prompt_tokens + model.vision.n_image_tokens
    attention = sizes.n_layer * sizes.n_head * sizes.n_key * n_tokens**2  # half of the cells, scores and values
    n_products = n_tokens * n_products_per_token(sizes) + _ATTENTION_COST * attention
    return n_products / _of(speed.prefill, outtype)


def decode_s(model: PublishedModel, outtype: str, speed: MachineSpeed) -> float:
    """Seconds of one token in the middle of an answer about one image: every weight and every cell is read once."""
    weights = decoder_bytes(model.text, outtype)
    n_cells = model.n_prompt_tokens + model.vision.n_image_tokens + _N_ANSWER_TOKENS
    unread = 0 if model.text.is_tied else weights["token_embd.weight"]  # but for one row
    n_bytes = sum(weights.values()) - unread + n_cells * model.text.n_cell_bytes
    return n_bytes / min(speed.read, _of(speed.decode, outtype)) + model.text.n_layer * speed.layer_s


def _of(by_outtype: Mapping[str, float], outtype: str) -> float:
    main = MAIN_TYPES[outtype]
    alike = [value for known, value in by_outtype.items() if MAIN_TYPES[known] == main]
    return by_outtype.get(outtype) or min(alike or by_outtype.values())


def candidates(
    speed: MachineSpeed, *, available: int | None, total: int | None, language: str | None = None
) -> list[Candidate]:
    """Every published model that knows the language, as every type of `OUTTYPES`; all scored by one evaluation.

    Args:
        speed: of the machine.
        available: bytes of memory that can be had now; None where the machine does not say.
        total: bytes of memory of the machine; None likewise.
        language: code; None is the average over a model's languages.
    """
    models = {name: model for name, model in PUBLISHED.items() if model.evaluation == _COMPARED}
    return _candidates(models, speed, available=available, total=total, language=language)


def _candidates(
    models: Mapping[str, PublishedModel],
    speed: MachineSpeed,
    *,
    available: int | None,
    total: int | None,
    language: str | None,
) -> list[Candidate]:
    found = []
    for name, model in models.items():
        if language is not None and language not in model.scores:
            continue
        for outtype in OUTTYPES:
            prediction = predict(model, outtype, speed, language)
            fit = fit_of(prediction.memory_bytes, available, total)
            found.append(Candidate(name, outtype, fit, prediction, model.score(language)))
    return found


def recommend(
    speed: MachineSpeed, *, available: int | None, total: int | None, language: str | None = None
) -> Recommendation:
    """Everything that a user needs to choose, and a choice; see `candidates`."""
    found = candidates(speed, available=available, total=total, language=language)
    # Further checkpoints of a model have its sizes.
    others = {name: m for name, m in PUBLISHED.items() if m.evaluation != _COMPARED and not m.variant}
    apart = _candidates(others, speed, available=available, total=total, language=language)
    return Recommendation(speed, available, total, language, tuple(found), recommended(found), tuple(apart))


def fit_of(memory_bytes: int, available: int | None, total: int | None) -> Fit:
    """Whether memory is enough, now or when other programs are closed."""
    if available is None or memory_bytes <= available:
        return "yes"
    return "tight" if total is not None and memory_bytes <= _USABLE_MEMORY * total else "no"


def recommended(found: Sequence[Candidate]) -> Candidate | None:
    """The one to take: of those that fit and answer in time, the smallest model that is about as good as the best.

    Where none answers in time, it is the fastest that fits; None where nothing fits.
    """
    fitting = [each for each in found if each.fit == "yes"]
    if not fitting:
        return None
    in_time = [each for each in fitting if each.is_patient]
    if not in_time:
        return max(fitting, key=lambda each: each.prediction.words_per_s)
    best = max(each.score for each in in_time)
    name = next(each.name for each in in_time if each.score > best - POINTS_WORTH_IT)
    return _type_of([each for each in in_time if each.name == name])


def _type_of(of_one_model: Sequence[Candidate]) -> Candidate:
    """The type nearest to the checkpoint that is no slower than people read; else the usual one, else the smallest."""
    by_outtype = {each.outtype: each for each in of_one_model}
    largest = by_outtype.get(_LARGEST)
    if largest and largest.prediction.words_per_s >= READING_WORDS_PER_S:
        return largest
    return by_outtype.get(_USUAL) or by_outtype[_SMALLEST]
