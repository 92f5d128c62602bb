import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multilingual_text import ANSWERS, UDHR

from palo_cpp.errors import ArgumentError
from palo_cpp.languages.detection import detect_language, identify_language, is_in_language, only_language
from palo_cpp.languages.languages import LANGUAGES, get_language, question_in
from palo_cpp.languages.other_languages import OTHER_LANGUAGES

CODES = ["en", "zh", "hi", "es", "fr", "ar", "bn", "ru", "ur", "ja"]

SENTENCES = {
    "en": [
        "What is in this picture?",
        "How many people are standing near the bus?",
        "Where was this photo taken?",
        "What's the dog doing?",
        "Tell me a story about these two cats.",
        "Why is the café empty?",
    ],
    "zh": [
        "这张图片里有什么？",
        "有多少人站在公共汽车旁边？",
        "请描述一下照片中的颜色。",
        "这只狗在做什么？",
        "你看到了什么？",
        "有一只黑色的大狗坐在草地上",
        "這張照片是在哪裡拍的？",
    ],
    "hi": [
        "इस तस्वीर में क्या है?",
        "बस के पास कितने लोग खड़े हैं?",
        "यह फ़ोटो कहाँ खींची गई थी?",
        "कुत्ता क्या कर रहा है?",
        "इस photo में कौन सा mobile phone दिख रहा है?",
    ],
    "es": [
        "¿Qué hay en esta imagen?",
        "¿Cuántas personas están cerca del autobús?",
        "Describe la foto por favor.",
        "El perro está durmiendo en el sofá.",
        "De que color es el coche",
        "¿Dónde está el niño?",
    ],
    "fr": [
        "Qu'y a-t-il sur cette image ?",
        "Combien de personnes se tiennent près du bus ?",
        "Où cette photo a-t-elle été prise ?",
        "Que fait le chien ?",
        "L’homme porte un chapeau.",
        "Décris la scène.",
    ],
    "ar": [
        "ماذا يوجد في هذه الصورة؟",
        "كم عدد الأشخاص الواقفين بالقرب من الحافلة؟",
        "أين التقطت هذه الصورة؟",
        "ما لون السيارة؟",
        "مَا هَذَا؟",
        "مَنْ؟",
    ],
    "bn": [
        "এই ছবিতে কী আছে?",
        "বাসের কাছে কতজন মানুষ দাঁড়িয়ে আছে?",
        "ছবিটি কোথায় তোলা হয়েছে?",
        "কুকুরটি কী করছে?",
    ],
    "ru": [
        "Что на этой картинке?",
        "Сколько людей стоит возле автобуса?",
        "Где сделана эта фотография?",
        "Какого цвета автомобиль BMW X5?",
    ],
    "ur": [
        "اس تصویر میں کیا ہے؟",
        "بس کے پاس کتنے لوگ کھڑے ہیں؟",
        "یہ تصویر کہاں لی گئی تھی؟",
        "گاڑی کا رنگ کیا ہے؟",
        "کتا کیا کر رہا ہے؟",
    ],
    "ja": [
        "この写真には何が写っていますか？",
        "バスの近くに何人の人が立っていますか？",
        "どこで撮った写真ですか。",
        "車の色は？",
        "コレハナンデスカ",
        "駅前広場",
    ],
}


def every_sentence():
    return [pytest.param(code, text, id=f"{code}-{i}") for code in CODES for i, text in enumerate(SENTENCES[code])]


def test_the_table_holds_the_ten_languages_in_the_order_of_the_paper():
    assert list(LANGUAGES) == CODES
    assert all(code == language.code for code, language in LANGUAGES.items())


def test_only_arabic_and_urdu_run_right_to_left():
    assert {code for code, language in LANGUAGES.items() if language.direction == "rtl"} == {"ar", "ur"}
    assert {language.direction for language in LANGUAGES.values()} == {"ltr", "rtl"}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("hi", "hi"),
        ("Hindi", "hi"),
        ("हिन्दी", "hi"),
        ("हिंदी", "hi"),
        ("HINDI ", "hi"),
        ("zh-CN", "zh"),
        ("zh_Hans", "zh"),
        ("中文", "zh"),
        ("Mandarin", "zh"),
        ("español", "es"),
        ("Español", "es"),
        ("ESPAÑOL", "es"),
        ("espanol", "es"),
        ("Français", "fr"),
        ("العربية", "ar"),
        ("Bangla", "bn"),
        ("বাংলা", "bn"),
        ("Русский", "ru"),
        ("اردو", "ur"),
        ("日本語", "ja"),
        ("en-GB", "en"),
    ],
)
def test_a_language_is_found_by_code_and_by_name(name, code):
    assert get_language(name).code == code


@pytest.mark.parametrize("code", CODES)
def test_every_name_works_in_both_unicode_forms_and_any_case(code):
    language = LANGUAGES[code]
    for name in (language.code, language.english_name, language.own_name, *language.aliases):
        for form in ("NFC", "NFD"):
            assert get_language(unicodedata.normalize(form, name)) is language
            assert get_language(unicodedata.normalize(form, name.upper())) is language


@pytest.mark.parametrize("name", ["de", "German", "pt-BR", "Klingon", "", "h", "hindi!", "日本"])
def test_an_unknown_language_is_refused_and_the_ten_are_listed(name):
    with pytest.raises(ArgumentError) as caught:
        get_language(name)
    assert all(f"{code} ({LANGUAGES[code].english_name})" in str(caught.value) for code in CODES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("de", "'de' (German)"),
        ("DE ", "'DE ' (German)"),
        ("de-AT", "'de-AT' (German)"),
        ("pt_BR", "'pt_BR' (Portuguese)"),
        ("German", "'German'"),
        ("german", "'german'"),
        ("Deutsch", "'Deutsch' (German)"),
        ("TÜRKÇE", "'TÜRKÇE' (Turkish)"),
        ("தமிழ்", "'தமிழ்' (Tamil)"),
        ("فارسی", "'فارسی' (Persian)"),
        (unicodedata.normalize("NFD", "Tiếng Việt"), f"{unicodedata.normalize('NFD', 'Tiếng Việt')!r} (Vietnamese)"),
    ],
)
def test_a_language_that_palo_does_not_know_is_named(name, got):
    with pytest.raises(ArgumentError) as caught:
        get_language(name)
    said, _, advice = str(caught.value).partition("; ")
    assert said == f"language: expected one of the ten, got {got}, which PALO does not know"
    assert advice.startswith("try en (English), or one of the others: zh (Chinese), hi (Hindi), ")


def test_the_table_of_other_languages_has_none_of_the_ten():
    assert len(OTHER_LANGUAGES) >= 30
    for code, names in OTHER_LANGUAGES.items():
        assert re.fullmatch("[a-z]{2}", code)
        for name in (code, *names):
            with pytest.raises(ArgumentError, match=f"{names[0]}.*which PALO does not know"):
                get_language(name)


@pytest.mark.parametrize("code", CODES)
def test_prompts_are_nfc_end_with_a_full_stop_and_are_in_their_language(code):
    language = LANGUAGES[code]
    stop = {"zh": "。", "ja": "。", "hi": "।", "bn": "।", "ur": "۔"}.get(code, ".")
    for text in (language.default_question, language.answer_request):
        assert text == unicodedata.normalize("NFC", text).strip()
        assert text.endswith(stop)
        assert detect_language(text) == {code}


@pytest.mark.parametrize(("code", "text"), every_sentence())
def test_a_sentence_is_recognized(code, text):
    assert detect_language(text) == {code}


@pytest.mark.parametrize(("code", "text"), every_sentence())
def test_decomposed_text_is_recognized_too(code, text):
    assert detect_language(unicodedata.normalize("NFD", text)) == {code}


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("", set()),
        ("  \n", set()),
        ("2 + 2 = ?", set()),
        ("🐕🎉", set()),
        ("한국어", set()),
        ("Toyota", {"en", "es", "fr"}),
        ("写真", {"zh", "ja"}),
        ("سلام", {"ar", "ur"}),
        ("la de", {"es", "fr"}),
        ("दिल Москва", {"hi", "ru"}),
    ],
)
def test_what_cannot_be_told_apart_stays_open(text, codes):
    assert detect_language(text) == codes


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("What does नमस्ते mean?", "en"),
        ("Wie übersetzt man 写真? What is the word 写真?", "en"),
        ("«Спартак» означает что-то вроде Spartak", "ru"),
        ("iPhone 15の写真はきれいですか", "ja"),
        ("تصویر میں Coca Cola کی بوتل ہے", "ur"),
        ("ｗｈａｔ ｉｓ ｔｈｉｓ", "en"),
    ],
)
def test_a_quotation_does_not_outvote_the_sentence_around_it(text, code):
    assert detect_language(text) == {code}


@given(st.text())
def test_any_text_gives_some_of_the_ten(text):
    assert detect_language(text) <= set(CODES)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("question", [None, "", "  \n"])
def test_no_question_becomes_the_default_question(code, question):
    assert question_in(code, question) == LANGUAGES[code].default_question


@pytest.mark.parametrize(("code", "text"), every_sentence())
def test_a_question_in_the_answers_language_is_left_alone(code, text):
    assert question_in(code, text) == text


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("asked_in", CODES)
def test_a_question_in_another_language_gets_a_request_in_the_answers_language(code, asked_in):
    question = SENTENCES[asked_in][0]
    expected = question if code == asked_in else f"{question} {LANGUAGES[code].answer_request}"
    assert question_in(code, question) == expected


def test_a_question_of_unknown_language_gets_the_request_too():
    assert question_in("ur", "سلام") == "سلام براہ کرم اردو میں جواب دیں۔"
    assert question_in("Hindi", "2 + 2?\n") == "2 + 2? कृपया हिन्दी में उत्तर दीजिए।"


@pytest.mark.parametrize("code", CODES)
def test_insisting_is_in_the_language_and_comes_always(code):
    language = LANGUAGES[code]
    assert language.insistence != language.answer_request
    assert detect_language(language.insistence) == {code}
    assert question_in(code, SENTENCES[code][0], insist=True) == f"{SENTENCES[code][0]} {language.insistence}"
    assert question_in(code, insist=True) == f"{language.default_question} {language.insistence}"


# --- Identification ---


@pytest.mark.parametrize("code", CODES)
def test_answers_are_identified_or_left_open_and_never_mistaken(code):
    """What tells the languages apart: short answers about photos, and the declaration cut into pieces."""
    declaration = re.split("[.,;،,。、；۔।]", UDHR[code])
    texts = [*ANSWERS[code], UDHR[code], *filter(str.strip, declaration)]
    identified = [identify_language(text) for text in texts]
    assert set(identified) <= {code, None}
    assert identified.count(code) >= 0.75 * len(texts)
    assert {is_in_language(text, code) for text in texts} <= {True, None}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("n_words", [2, 3])
def test_a_few_words_are_left_open_rather_than_mistaken(code, n_words):
    words = list(UDHR[code]) if code in ("zh", "ja") else UDHR[code].split()
    n, space = (2 * n_words, "") if code in ("zh", "ja") else (n_words, " ")
    stretches = [space.join(words[i : i + n]) for i in range(len(words) - n + 1)]
    assert [text for text in stretches if is_in_language(text, code) is False] == []
    told = [identify_language(text) == code for text in stretches]
    assert sum(told) >= (0.7, 0.9)[n_words - 2] * len(told)


@pytest.mark.parametrize("code", CODES)
def test_another_language_is_told(code):
    for other in CODES:
        verdicts = [is_in_language(text, other) for text in (UDHR[code], *SENTENCES[code])]
        assert code == other or verdicts[0] is False
        assert code == other or True not in verdicts


@pytest.mark.parametrize("text", ["", "3", "42 %", "🙂", "…", "Ω"])
def test_where_there_is_nothing_to_go_by_nothing_is_claimed(text):
    assert identify_language(text) is only_language(text) is is_in_language(text, "en") is None


def test_a_name_alone_may_be_of_any_language_of_its_script():
    assert is_in_language("OK", "fr") is None
    assert is_in_language("OK", "hi") is False


def test_question_in_refuses_an_unknown_language():
    with pytest.raises(ArgumentError, match="language: expected one of the ten, got 'tlh'"):
        question_in("tlh", "What is this?")
