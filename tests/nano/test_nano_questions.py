"""The ten grammars: sentences checked by hand, and what must hold for every thing, colour and number."""

import unicodedata

import pytest

from nano.questions import GRAMMARS
from nano.things import COLOURS, KINDS, SIDES, Group
from palo_cpp.languages.detection import detect_language
from palo_cpp.languages.languages import LANGUAGES

GROUPS = (Group("star", "red", 2), Group("fish", "blue", 1), Group("tree", "green", 3))

# (call, sentence): `call` is evaluated with the grammar as g.
SENTENCES = {
    "en": [
        ("g.describe(GROUPS)", "The picture shows two red stars, a blue fish and three green trees."),
        ("g.describe([Group('fish', 'orange', 2)])", "The picture shows two orange fish."),
        ("g.count(1, 'cross', 'orange')", "There is one orange cross."),
        ("g.count(0, None, 'red')", "There are no red things."),
        ("g.exists(1, 'cup', 'orange')", "Yes, there is an orange cup."),
        ("g.exists(0, 'house', None)", "No, there is no house."),
        ("g.neighbour('above', 'tree', ('star', 'white'))", "Above the tree there is a white star."),
        ("g.ask_count('cross', 'black')[0]", "How many black crosses are there?"),
    ],
    "es": [
        ("g.describe(GROUPS)", "La imagen muestra dos estrellas rojas, un pez azul y tres árboles verdes."),
        ("g.count(1, 'star', 'red')", "Hay una estrella roja."),
        ("g.count(0, 'heart', 'yellow')", "No hay ningún corazón amarillo."),
        ("g.exists(3, 'fish', 'blue')", "Sí, hay tres peces azules."),
        ("g.exists(0, 'cross', 'purple')", "No, no hay ninguna cruz morada."),
        ("g.neighbour('below', 'fish', ('cup', 'black'))", "Debajo del pez hay una taza negra."),
        ("g.neighbour('left', 'house', None)", "No hay nada a la izquierda de la casa."),
        ("g.ask_colour('tree')[1]", "¿Cuál es el color del árbol?"),
        ("g.ask_count('cross', 'white')[0]", "¿Cuántas cruces blancas hay?"),
        ("g.largest('heart', 'orange')", "La figura más grande es el corazón naranja."),
    ],
    "fr": [
        ("g.describe(GROUPS)", "L'image montre deux étoiles rouges, un poisson bleu et trois arbres verts."),
        ("g.count(1, 'heart', 'red')", "Il y a un cœur rouge."),
        ("g.count(2, 'house', 'white')", "Il y a deux maisons blanches."),
        ("g.count(2, 'star', 'orange')", "Il y a deux étoiles orange."),
        ("g.count(0, 'cup', 'purple')", "Il n'y a aucune tasse violette."),
        ("g.exists(0, 'tree', None)", "Non, il n'y a pas d'arbre."),
        ("g.colour('star', 'green')", "L'étoile est verte."),
        ("g.neighbour('left', 'circle', ('cross', 'black'))", "À gauche du cercle, il y a une croix noire."),
        ("g.neighbour('above', 'tree', None)", "Il n'y a rien au-dessus de l'arbre."),
        ("g.ask_count('tree', 'blue')[0]", "Combien d'arbres bleus y a-t-il ?"),
        ("g.ask_colour('house')[1]", "Quelle est la couleur de la maison ?"),
    ],
    "ru": [
        ("g.describe(GROUPS)", "На картинке две красные звезды, синяя рыба и три зелёных дерева."),
        ("g.count(5, 'star', 'red')", "На картинке пять красных звёзд."),
        ("g.count(1, 'heart', 'blue')", "На картинке одно синее сердце."),
        ("g.count(2, 'house', 'yellow')", "На картинке два жёлтых дома."),
        ("g.count(4, 'cup', 'black')", "На картинке четыре чёрные чашки."),
        ("g.count(0, 'heart', 'white')", "На картинке нет белых сердец."),
        ("g.exists(0, 'fish', 'blue')", "Нет, синей рыбы здесь нет."),
        ("g.exists(0, 'tree', 'orange')", "Нет, оранжевого дерева здесь нет."),
        ("g.neighbour('left', 'house', ('tree', 'green'))", "Слева от дома зелёное дерево."),
        ("g.neighbour('above', 'fish', None)", "Над рыбой ничего нет."),
        ("g.neighbour('below', 'cross', ('cup', 'red'))", "Под крестом красная чашка."),
        ("g.colour('heart', 'blue')", "Сердце синее."),
    ],
    "ar": [
        ("g.describe(GROUPS)", "في الصورة نجمتان حمراوان وسمكة زرقاء وثلاث أشجار خضراء."),
        ("g.count(2, 'square', 'red')", "في الصورة مربعان أحمران."),
        ("g.count(3, 'house', 'blue')", "في الصورة ثلاثة بيوت زرقاء."),
        ("g.count(4, 'circle', 'orange')", "في الصورة أربع دوائر برتقالية."),
        ("g.count(1, 'fish', 'yellow')", "في الصورة سمكة صفراء واحدة."),
        ("g.count(0, 'cup', 'black')", "لا يوجد أي كوب أسود في الصورة."),
        ("g.exists(2, 'tree', 'orange')", "نعم، توجد شجرتان برتقاليتان."),
        ("g.exists(0, 'star', 'white')", "لا، لا توجد نجمة بيضاء."),
        ("g.largest('star', 'red')", "الشكل الأكبر هو النجمة الحمراء."),
        ("g.ask_count('house', 'purple')[0]", "كم بيتًا بنفسجيًا في الصورة؟"),
        ("g.ask_count('house', 'red')[0]", "كم بيتًا أحمر في الصورة؟"),
        ("g.ask_count('star', 'red')[3]", "ما عدد النجمات الحمراء؟"),
        ("g.neighbour('left', 'circle', ('heart', 'red'))", "على يسار الدائرة قلب أحمر."),
    ],
    "hi": [
        ("g.describe(GROUPS)", "तस्वीर में दो लाल तारे, एक नीली मछली और तीन हरे पेड़ हैं।"),
        ("g.count(2, 'fish', 'red')", "तस्वीर में दो लाल मछलियाँ हैं।"),
        ("g.count(3, 'star', 'yellow')", "तस्वीर में तीन पीले तारे हैं।"),
        ("g.count(1, 'fish', 'black')", "तस्वीर में एक काली मछली है।"),
        ("g.exists(0, 'cup', 'green')", "नहीं, तस्वीर में कोई हरा प्याला नहीं है।"),
        ("g.neighbour('left', 'star', ('fish', 'yellow'))", "तारे के बाईं ओर एक पीली मछली है।"),
        ("g.neighbour('below', 'house', None)", "घर के नीचे कुछ नहीं है।"),
        ("g.ask_count('fish', 'blue')[0]", "तस्वीर में कितनी नीली मछलियाँ हैं?"),
        ("g.ask_count('cup', 'blue')[3]", "नीले प्यालों की संख्या बताइए।"),
        ("g.ask_colour('star')[0]", "तारे का रंग क्या है?"),
    ],
    "ur": [
        ("g.describe(GROUPS)", "تصویر میں دو سرخ ستارے، ایک نیلی مچھلی اور تین سبز درخت ہیں۔"),
        ("g.count(2, 'fish', 'yellow')", "تصویر میں دو پیلی مچھلیاں ہیں۔"),
        ("g.count(1, 'star', 'black')", "تصویر میں ایک کالا ستارہ ہے۔"),
        ("g.exists(0, 'cup', 'blue')", "نہیں، تصویر میں کوئی نیلی پیالی نہیں ہے۔"),
        ("g.neighbour('right', 'circle', ('house', 'blue'))", "دائرے کے دائیں طرف ایک نیلا گھر ہے۔"),
        ("g.ask_count('star', 'yellow')[3]", "پیلے ستاروں کی تعداد بتائیں۔"),
        ("g.ask_exists('fish', None)[2]", "کیا آپ کو کوئی مچھلی نظر آ رہی ہے؟"),
    ],
    "bn": [
        ("g.describe(GROUPS)", "ছবিতে দুটি লাল তারা, একটি নীল মাছ এবং তিনটি সবুজ গাছ আছে।"),
        ("g.count(0, 'house', 'white')", "ছবিতে কোনো সাদা বাড়ি নেই।"),
        ("g.colour('house', 'yellow')", "বাড়িটি হলুদ।"),
        ("g.neighbour('above', 'tree', ('cup', 'black'))", "গাছটির উপরে একটি কালো কাপ আছে।"),
        ("g.ask_count('fish', None)[1]", "এখানে কয়টা মাছ আছে?"),
        ("g.largest('star', 'red')", "সবচেয়ে বড় হলো লাল তারাটি।"),
    ],
    "zh": [
        ("g.describe(GROUPS)", "图中有两颗红色的星星、一条蓝色的鱼和三棵绿色的树。"),
        ("g.count(2, 'house', 'white')", "图中有两座白色的房子。"),
        ("g.exists(0, 'cup', None)", "没有，图中没有杯子。"),
        ("g.neighbour('left', 'house', None)", "房子的左边什么也没有。"),
        ("g.ask_count('fish', 'black')[0]", "图中有几条黑色的鱼？"),
    ],
    "ja": [
        ("g.describe(GROUPS)", "画像には、赤い星が二つ、青い魚が一匹、緑の木が三本描かれています。"),
        ("g.exists(2, 'fish', 'red')", "はい、赤い魚が二匹います。"),
        ("g.count(4, 'house', 'orange')", "オレンジ色の家は四軒あります。"),
        ("g.count(0, 'fish', 'black')", "黒い魚はいません。"),
        ("g.neighbour('right', 'cup', ('fish', 'yellow'))", "カップの右には黄色い魚がいます。"),
        ("g.ask_count('tree', 'purple')[0]", "紫の木は何本ありますか？"),
        ("g.ask_count('star', None)[0]", "星はいくつありますか？"),
        ("g.colour('heart', 'black')", "ハートの色は黒です。"),
    ],
}


@pytest.mark.parametrize(("code", "call", "sentence"), [(c, *pair) for c, pairs in SENTENCES.items() for pair in pairs])
def test_sentences_checked_by_hand(code, call, sentence):
    assert eval(call, {"g": GRAMMARS[code], "GROUPS": GROUPS, "Group": Group}) == unicodedata.normalize("NFC", sentence)


def answers(grammar):
    """Everything a grammar can answer, by what it says."""
    said = {("unknown",): grammar.UNKNOWN}
    for kind in KINDS:
        for colour in COLOURS:
            said |= {("count", n, kind, colour): grammar.count(n, kind, colour) for n in range(6)}
            said |= {("exists", n, kind, colour): grammar.exists(n, kind, colour) for n in range(6)}
            said["colour", kind, colour] = grammar.colour(kind, colour)
            said["largest", kind, colour] = grammar.largest(kind, colour)
            for side in SIDES:
                said["neighbour", side, kind, colour] = grammar.neighbour(side, kind, ("cup", colour))
        said["count", 2, kind] = grammar.count(2, kind, None)
        said["exists", 0, kind] = grammar.exists(0, kind, None)
        said |= {("nothing", side, kind): grammar.neighbour(side, kind, None) for side in SIDES}
    for colour in COLOURS:
        said |= {("things", n, colour): grammar.count(n, None, colour) for n in range(6)}
    for n in range(1, 6):
        said["all", n] = grammar.count(n, None, None)
        said["describe", n] = grammar.describe([Group("star", "red", n), Group("cup", "white", 1)])
    return said


def questions(grammar):
    """Every set of phrasings."""
    sets = [grammar.DESCRIBE, grammar.OFF_TOPIC, grammar.ask_largest()]
    for kind in KINDS:
        sets.append(grammar.ask_colour(kind))
        for colour in (None, *COLOURS):
            sets += [grammar.ask_count(kind, colour), grammar.ask_exists(kind, colour), grammar.ask_count(None, colour)]
        sets += [grammar.ask_neighbour(side, kind) for side in SIDES]
    return sets


@pytest.mark.parametrize("code", GRAMMARS)
def test_different_facts_are_different_sentences(code):
    said = answers(GRAMMARS[code])
    assert len(set(said.values())) == len(said)


@pytest.mark.parametrize("code", GRAMMARS)
def test_text_is_composed_whole_and_in_its_script(code):
    texts = [*answers(GRAMMARS[code]).values(), *(text for texts in questions(GRAMMARS[code]) for text in texts)]
    end = {"zh": "。？", "ja": "。？", "hi": "।?", "bn": "।?", "ur": "۔؟", "ar": ".؟"}.get(code, ".?")
    for text in texts:
        assert text == unicodedata.normalize("NFC", text) == " ".join(text.split())
        assert text[-1] in end, text
        assert code in detect_language(text), text
        assert "None" not in text and "_" not in text
    assert len(detect_language(" ".join(texts))) == 1


@pytest.mark.parametrize("code", GRAMMARS)
def test_every_question_has_three_phrasings(code):
    for phrasings in questions(GRAMMARS[code]):
        assert len(set(phrasings)) == len(phrasings) >= 3


def test_all_ten_languages():
    assert set(GRAMMARS) == set(LANGUAGES)


def test_urdu_has_its_own_letters():
    text = " ".join(answers(GRAMMARS["ur"]).values()) + " ".join(q for qs in questions(GRAMMARS["ur"]) for q in qs)
    assert not set(text) & set("يكىةه؛?.,")


@pytest.mark.parametrize("code", ["es"])
def test_spanish_opens_its_questions(code):
    for text in (q for qs in questions(GRAMMARS[code]) for q in qs):
        assert text.endswith("?") == text.startswith("¿"), text
