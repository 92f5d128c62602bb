"""One table: the ten languages of PALO, with their names, script, direction and prompts.

Everything that depends on a language reads it from here.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from palo_cpp.errors import ArgumentError
from palo_cpp.languages.detection import detect_language
from palo_cpp.languages.other_languages import OTHER_LANGUAGES


@dataclass(frozen=True)
class Language:
    """One language that PALO answers in.

    Attributes:
        code: ISO 639-1 code, the key in `LANGUAGES`.
        english_name: its name in English.
        own_name: its name in itself.
        script: ISO 15924 code of the script it is written in.
        letters: the scripts of `scripts.SCRIPTS` that its words are spelled in; its digits are theirs, and ASCII's.
        direction: "ltr" or "rtl", the base direction of a paragraph.
        default_question: what is asked about an image when the user asks nothing.
        answer_request: a sentence in this language that asks for the answer in this language.
        insistence: the same, more strongly, for when it was not heeded.
        aliases: further names that `get_language` accepts.
    """

    code: str
    english_name: str
    own_name: str
    script: str
    letters: tuple[str, ...]
    direction: str
    default_question: str
    answer_request: str
    insistence: str
    aliases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.code} ({self.english_name}, {self.own_name})"


_TABLE = (
    Language(
        code="en",
        english_name="English",
        own_name="English",
        script="Latn",
        letters=("Latn", "Zinh"),
        direction="ltr",
        default_question="Describe this image in detail.",
        answer_request="Please answer in English.",
        insistence="Answer only in English, and in no other language.",
        aliases=("eng",),
    ),
    Language(
        code="zh",
        english_name="Chinese",
        own_name="中文",
        script="Hans",
        letters=("Hani",),
        direction="ltr",
        default_question="请详细描述这张图片。",
        answer_request="请用中文回答。",
        insistence="请只用中文回答，不要使用其他语言。",
        aliases=("zho", "chi", "cmn", "Mandarin", "Simplified Chinese", "简体中文", "汉语", "漢語", "华语", "普通话"),
    ),
    Language(
        code="hi",
        english_name="Hindi",
        own_name="हिन्दी",
        script="Deva",
        letters=("Deva",),
        direction="ltr",
        default_question="इस तस्वीर का विस्तार से वर्णन कीजिए।",
        answer_request="कृपया हिन्दी में उत्तर दीजिए।",
        insistence="केवल हिन्दी में उत्तर दीजिए, किसी और भाषा में नहीं।",
        aliases=("hin", "हिंदी"),
    ),
    Language(
        code="es",
        english_name="Spanish",
        own_name="español",
        script="Latn",
        letters=("Latn", "Zinh"),
        direction="ltr",
        default_question="Describe esta imagen en detalle.",
        answer_request="Por favor, responde en español.",
        insistence="Responde únicamente en español, en ningún otro idioma.",
        aliases=("spa", "espanol", "castellano", "Castilian"),
    ),
    Language(
        code="fr",
        english_name="French",
        own_name="français",
        script="Latn",
        letters=("Latn", "Zinh"),
        direction="ltr",
        default_question="Décrivez cette image en détail.",
        answer_request="Veuillez répondre en français.",
        insistence="Répondez uniquement en français, dans aucune autre langue.",
        aliases=("fra", "fre", "francais"),
    ),
    Language(
        code="ar",
        english_name="Arabic",
        own_name="العربية",
        script="Arab",
        letters=("Arab",),
        direction="rtl",
        default_question="صف هذه الصورة بالتفصيل.",
        answer_request="يرجى الإجابة باللغة العربية.",
        insistence="أجب باللغة العربية فقط، وليس بأي لغة أخرى.",
        aliases=("ara", "عربي", "عربية", "عربى"),
    ),
    Language(
        code="bn",
        english_name="Bengali",
        own_name="বাংলা",
        script="Beng",
        letters=("Beng",),
        direction="ltr",
        default_question="এই ছবিটির বিস্তারিত বর্ণনা দিন।",
        answer_request="অনুগ্রহ করে বাংলায় উত্তর দিন।",
        insistence="শুধু বাংলায় উত্তর দিন, অন্য কোনো ভাষায় নয়।",
        aliases=("ben", "Bangla"),
    ),
    Language(
        code="ru",
        english_name="Russian",
        own_name="русский",
        script="Cyrl",
        letters=("Cyrl", "Zinh"),
        direction="ltr",
        default_question="Подробно опишите это изображение.",
        answer_request="Пожалуйста, ответьте на русском языке.",
        insistence="Отвечайте только на русском языке и ни на каком другом.",
        aliases=("rus", "русский язык", "по-русски"),
    ),
    Language(
        code="ur",
        english_name="Urdu",
        own_name="اردو",
        script="Arab",
        letters=("Arab",),
        direction="rtl",
        default_question="اس تصویر کو تفصیل سے بیان کریں۔",
        answer_request="براہ کرم اردو میں جواب دیں۔",
        insistence="صرف اردو میں جواب دیں، کسی اور زبان میں نہیں۔",
        aliases=("urd", "اُردو", "أردو"),
    ),
    Language(
        code="ja",
        english_name="Japanese",
        own_name="日本語",
        script="Jpan",
        letters=("Hani", "Kana"),
        direction="ltr",
        default_question="この画像を詳しく説明してください。",
        answer_request="日本語で答えてください。",
        insistence="必ず日本語だけで答え、他の言語は使わないでください。",
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


_OTHER_BY_NAME = {_key(name): names[0] for code, names in OTHER_LANGUAGES.items() for name in (code, *names)}


def get_language(name_or_code: str) -> Language:
    """Find a language by code (`hi`, `zh-CN`), English name (`Hindi`) or own name (`हिन्दी`), in any case.

    Args:
        name_or_code: what the user typed; a tag such as `es-MX` or `zh_Hans` counts by its first part.

    Returns:
        The entry of `LANGUAGES`.

    Raises:
        ArgumentError: it is none of the ten; the message lists them, and names what was asked for where it is known.

    Example:
        >>> get_language("اردو").code
        'ur'
    """
    key = _key(name_or_code)
    first_part = re.split("[-_]", key)[0]
    found = _BY_NAME.get(key) or LANGUAGES.get(first_part)
    if found is None:
        raise ArgumentError(f"language: expected one of the ten, {_unknown(name_or_code, key, first_part)}")
    return found


def _unknown(given: str, key: str, first_part: str) -> str:
    ten = [f"{language.code} ({language.english_name})" for language in _TABLE]
    name = _OTHER_BY_NAME.get(key) or _OTHER_BY_NAME.get(first_part)
    if name is None:
        return f"got {given!r}; choose from {', '.join(ten)}"
    named = f"{given!r}" if key == _key(name) else f"{given!r} ({name})"
    return f"got {named}, which PALO does not know; try {ten[0]}, or one of the others: {', '.join(ten[1:])}"


def question_in(language: str, question: str | None = None, *, insist: bool = False) -> str:
    """Word a question so that its answer comes in `language`.

    Args:
        language: code or name, as `get_language` takes it.
        question: the user's question in any language; None or blank asks the default question.
        insist: ask for the language even where the question is in it, and more strongly.

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
        question = chosen.default_question
    if insist:
        return f"{question.rstrip()} {chosen.insistence}"
    if question == chosen.default_question or detect_language(question) == {chosen.code}:
        return question
    return f"{question.rstrip()} {chosen.answer_request}"
