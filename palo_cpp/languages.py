"""One table: the ten languages of PALO, with their names, script, direction and prompts.

Everything that depends on a language reads it from here. Detection is deliberately small: it tells the ten apart, by
script first, by letters and function words where they share one, and says so when it cannot.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import groupby

from palo_cpp.errors import ArgumentError


@dataclass(frozen=True)
class Language:
    """One language that PALO answers in.

    Attributes:
        code: ISO 639-1 code, the key in `LANGUAGES`.
        english_name: its name in English.
        own_name: its name in itself.
        script: ISO 15924 code of the script it is written in.
        direction: "ltr" or "rtl", the base direction of a paragraph.
        default_question: what is asked about an image when the user asks nothing.
        answer_request: a sentence in this language that asks for the answer in this language.
        aliases: further names that `get_language` accepts.
    """

    code: str
    english_name: str
    own_name: str
    script: str
    direction: str
    default_question: str
    answer_request: str
    aliases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.code} ({self.english_name}, {self.own_name})"


_TABLE = (
    Language(
        code="en",
        english_name="English",
        own_name="English",
        script="Latn",
        direction="ltr",
        default_question="Describe this image in detail.",
        answer_request="Please answer in English.",
        aliases=("eng",),
    ),
    Language(
        code="zh",
        english_name="Chinese",
        own_name="中文",
        script="Hans",
        direction="ltr",
        default_question="请详细描述这张图片。",
        answer_request="请用中文回答。",
        aliases=("zho", "chi", "cmn", "Mandarin", "Simplified Chinese", "简体中文", "汉语", "漢語", "华语", "普通话"),
    ),
    Language(
        code="hi",
        english_name="Hindi",
        own_name="हिन्दी",
        script="Deva",
        direction="ltr",
        default_question="इस तस्वीर का विस्तार से वर्णन कीजिए।",
        answer_request="कृपया हिन्दी में उत्तर दीजिए।",
        aliases=("hin", "हिंदी"),
    ),
    Language(
        code="es",
        english_name="Spanish",
        own_name="español",
        script="Latn",
        direction="ltr",
        default_question="Describe esta imagen en detalle.",
        answer_request="Por favor, responde en español.",
        aliases=("spa", "espanol", "castellano", "Castilian"),
    ),
    Language(
        code="fr",
        english_name="French",
        own_name="français",
        script="Latn",
        direction="ltr",
        default_question="Décrivez cette image en détail.",
        answer_request="Veuillez répondre en français.",
        aliases=("fra", "fre", "francais"),
    ),
    Language(
        code="ar",
        english_name="Arabic",
        own_name="العربية",
        script="Arab",
        direction="rtl",
        default_question="صف هذه الصورة بالتفصيل.",
        answer_request="يرجى الإجابة باللغة العربية.",
        aliases=("ara", "عربي", "عربية", "عربى"),
    ),
    Language(
        code="bn",
        english_name="Bengali",
        own_name="বাংলা",
        script="Beng",
        direction="ltr",
        default_question="এই ছবিটির বিস্তারিত বর্ণনা দিন।",
        answer_request="অনুগ্রহ করে বাংলায় উত্তর দিন।",
        aliases=("ben", "Bangla"),
    ),
    Language(
        code="ru",
        english_name="Russian",
        own_name="русский",
        script="Cyrl",
        direction="ltr",
        default_question="Подробно опишите это изображение.",
        answer_request="Пожалуйста, ответьте на русском языке.",
        aliases=("rus", "русский язык", "по-русски"),
    ),
    Language(
        code="ur",
        english_name="Urdu",
        own_name="اردو",
        script="Arab",
        direction="rtl",
        default_question="اس تصویر کو تفصیل سے بیان کریں۔",
        answer_request="براہ کرم اردو میں جواب دیں۔",
        aliases=("urd", "اُردو", "أردو"),
    ),
    Language(
        code="ja",
        english_name="Japanese",
        own_name="日本語",
        script="Jpan",
        direction="ltr",
        default_question="この画像を詳しく説明してください。",
        answer_request="日本語で答えてください。",
        aliases=("jpn", "にほんご"),
    ),
)

LANGUAGES: dict[str, Language] = {language.code: language for language in _TABLE}


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.strip()).casefold())


_BY_NAME = {
    _key(name): language
    for language in _TABLE
    for name in (language.code, language.english_name, language.own_name, *language.aliases)
}


def get_language(name_or_code: str) -> Language:
    """Find a language by code (`hi`, `zh-CN`), English name (`Hindi`) or own name (`हिन्दी`), in any case.

    Args:
        name_or_code: what the user typed; a tag such as `es-MX` or `zh_Hans` counts by its first part.

    Returns:
        The entry of `LANGUAGES`.

    Raises:
        ArgumentError: it is none of the ten; the message lists them.

    Example:
        >>> get_language("اردو").code
        'ur'
    """
    key = _key(name_or_code)
    found = _BY_NAME.get(key) or LANGUAGES.get(re.split("[-_]", key)[0])
    if found is None:
        raise ArgumentError(f"language: expected one of the ten, got {name_or_code!r}; choose from {_the_ten()}")
    return found


def _the_ten() -> str:
    return ", ".join(f"{language.code} ({language.english_name})" for language in _TABLE)


def question_in(language: str, question: str | None = None) -> str:
    """Word a question so that its answer comes in `language`.

    Args:
        language: code or name, as `get_language` takes it.
        question: the user's question in any language; None or blank asks the default question.

    Returns:
        The default question; or the question as it is, when it is certainly in `language` already; or the question
        followed by a request, in `language`, to answer in `language`.

    Raises:
        ArgumentError: the language is none of the ten.

    Example:
        >>> question_in("ja", "What is this?")
        'What is this? 日本語で答えてください。'
    """
    chosen = get_language(language)
    if question is None or not question.strip():
        return chosen.default_question
    if detect_language(question) == {chosen.code}:
        return question
    return f"{question.rstrip()} {chosen.answer_request}"


# --- Detection ---


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text)


# First and last code point of the blocks that the ten languages are written in, after NFKC: no presentation forms.
_BLOCKS = (
    (0x0041, 0x005A, "Latn"),
    (0x0061, 0x007A, "Latn"),
    (0x00C0, 0x00D6, "Latn"),
    (0x00D8, 0x00F6, "Latn"),
    (0x00F8, 0x024F, "Latn"),
    (0x0400, 0x052F, "Cyrl"),
    (0x0620, 0x064A, "Arab"),
    (0x066E, 0x06D3, "Arab"),
    (0x0900, 0x0963, "Deva"),
    (0x0980, 0x09E3, "Beng"),
    (0x3005, 0x3007, "Hani"),
    (0x3041, 0x30FF, "Kana"),
    (0x3400, 0x9FFF, "Hani"),
    (0x20000, 0x323AF, "Hani"),
)
# Joiners, direction marks and Arabic vowel signs stand inside words and say nothing about the language.
_TRANSPARENT = dict.fromkeys(
    [*map(ord, "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"), *range(0x064B, 0x0660), *range(0x2066, 0x206A)]
)
# These scripts put no space between words; two characters make about one word.
_CHARACTERS_PER_WORD = {"Hani": 2, "Kana": 2}
_LANGUAGE_OF_SCRIPT = {"Deva": "hi", "Beng": "bn", "Cyrl": "ru", "Jpan": "ja"}

_URDU_LETTERS = frozenset("ٹڈڑںےۓہھۂۃگچپژکی")
_ARABIC_LETTERS = frozenset("يكةىإهؤ")
_URDU_WORDS = frozenset(_words("اور اس ان تو جو سب بس تم آپ"))
_ARABIC_WORDS = frozenset(_words("ما من هل لا عن أو أم لم قد أن كل ماذا"))

# Characters that modern Japanese does not write, and some that only Japanese does, decide a text without kana.
_CHINESE_CHARACTERS = frozenset(
    "这们么吗吧呢你她它谁哪请图张说话问题语车门马鸟鱼对时间为还过进动红绿颜详细几样给让从這麼嗎說圖您啊"
)
_JAPANESE_CHARACTERS = frozenset("図込働畑峠枠匂読説売駅気楽帰円広戦変発対県関鉄黒顔桜検験総絵続経覚観転軽辺歩歳")
# Japanese of this length without any kana is practically never seen, headlines aside.
_LONG_WITHOUT_KANA = 10

_FUNCTION_WORDS = {
    "en": frozenset(
        _words(
            "the is are was were be been this that these those what which who whom whose where when why how "
            "many much a an and or but not no of in on at to for from with by about there here it its he she "
            "they them his her their i you we my your do does did don can could will would should has have had "
            "if please describe picture image photo color colour people man woman dog cat see show tell answer "
            "explain name any some one two s t re"
        )
    ),
    "es": frozenset(
        _words(
            "el la los las un una unos unas de del al a en y o u que qué quién quien quiénes cuál cuáles cual "
            "cómo como dónde donde cuándo cuando cuánto cuántos cuántas por para con sin sobre se es son está "
            "están esta este estos estas esto eso esa ese hay no sí si su sus lo le les me mi tu te ha han "
            "describe imagen foto color colores persona personas hombre mujer perro gato puedes ver favor "
            "responde dime cuenta ella él ellos muy más"
        )
    ),
    "fr": frozenset(
        _words(
            "le la les l un une des de du d au aux à a en et ou que qu quoi qui quel quelle quels quelles "
            "comment où quand combien pourquoi pour par avec sans sur dans est sont ce cet cette ces c ça il "
            "elle ils elles on nous vous je j tu ne n pas y son sa ses mon ma mes votre vos leur s t m se me te "
            "ai as ont décris décrivez image photo couleur couleurs personne personnes homme femme chien chat "
            "peux pouvez voir plaît répondez réponds très plus"
        )
    ),
}
_DIACRITICS = {"en": frozenset[str](), "es": frozenset("áíóúñ¿¡é"), "fr": frozenset("àâæçèéêëîïôœùûüÿ")}


def detect_language(text: str) -> set[str]:
    """Say which of the ten languages a text may be in.

    Args:
        text: any text; names and quotations in another script do not outvote the rest.

    Returns:
        Codes of all candidates: one where letters or words decide, several where they do not ("OK" may be en, es or
        fr), none where there is nothing to go by (digits, punctuation, emoji, other scripts). A language outside the
        ten is taken for its nearest neighbour by script.

    Example:
        >>> detect_language("これは何ですか？")
        {'ja'}
    """
    text = unicodedata.normalize("NFKC", text).casefold().translate(_TRANSPARENT)
    n_words = _words_per_script(text)
    most = max(n_words.values(), default=0.0)
    return {code for script, n in n_words.items() if n == most for code in _languages_of(script, text)}


def count_words(text: str) -> float:
    """How many words a text has; in scripts without spaces, two characters make about one."""
    return sum(_words_per_script(unicodedata.normalize("NFKC", text).casefold().translate(_TRANSPARENT)).values())


def _script(character: str) -> str:
    point = ord(character)
    return next((script for first, last, script in _BLOCKS if first <= point <= last), "")


def _words_per_script(text: str) -> dict[str, float]:
    counts: dict[str, float] = {}
    for script, run in groupby(text, key=_script):
        if script:
            n_characters = sum(1 for _ in run)
            n_words = n_characters / _CHARACTERS_PER_WORD.get(script, n_characters)
            counts[script] = counts.get(script, 0.0) + n_words
    if "Kana" in counts:
        counts["Jpan"] = counts.pop("Kana") + counts.pop("Hani", 0.0)
    return counts


def _languages_of(script: str, text: str) -> set[str]:
    if script in _LANGUAGE_OF_SCRIPT:
        return {_LANGUAGE_OF_SCRIPT[script]}
    if script == "Arab":
        return _arabic_or_urdu(text)
    if script == "Hani":
        return _chinese_or_japanese(text)
    return _english_spanish_or_french(text)


def _arabic_or_urdu(text: str) -> set[str]:
    words = _words(text)
    n_articles = sum(word.startswith("ال") for word in words)
    return _best(
        ar=_count(text, _ARABIC_LETTERS) + _count(words, _ARABIC_WORDS) + n_articles,
        ur=_count(text, _URDU_LETTERS) + _count(words, _URDU_WORDS),
    )


def _chinese_or_japanese(text: str) -> set[str]:
    n_han = sum(_script(character) == "Hani" for character in text)
    return _best(
        zh=_count(text, _CHINESE_CHARACTERS) + (n_han >= _LONG_WITHOUT_KANA),
        ja=_count(text, _JAPANESE_CHARACTERS),
    )


def _english_spanish_or_french(text: str) -> set[str]:
    words = _words(text)
    scores = {code: _count(words, known) + _count(text, _DIACRITICS[code]) for code, known in _FUNCTION_WORDS.items()}
    return _best(**scores)


def _best(**scores: int) -> set[str]:
    most = max(scores.values())
    return {code for code, score in scores.items() if score == most}


def _count(items: str | list[str], known: frozenset[str]) -> int:
    return sum(item in known for item in items)
