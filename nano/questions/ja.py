"""Japanese: counters (一つ, 二匹, 三本, 四軒, 五個), いる for fish and ある for things, adjectives with い or の."""

from __future__ import annotations

from collections.abc import Sequence

from nano.things import Group

DESCRIBE = (
    "この画像には何がありますか？",
    "何が見えますか？",
    "画像を説明してください。",
    "何が描かれていますか？",
)
OFF_TOPIC = (
    "大統領は誰ですか？",
    "今何時ですか？",
    "フランスの首都はどこですか？",
    "あなたは誰ですか？",
    "冗談を言ってください。",
    "写真の人は何をしていますか？",
)
UNKNOWN = "簡単な絵しか分かりません。"

# noun, counter
_NOUNS = {
    "circle": ("円", "つ"),
    "square": ("正方形", "つ"),
    "triangle": ("三角形", "つ"),
    "star": ("星", "つ"),
    "heart": ("ハート", "つ"),
    "cross": ("十字", "つ"),
    "house": ("家", "軒"),
    "tree": ("木", "本"),
    "fish": ("魚", "匹"),
    "cup": ("カップ", "個"),
    "thing": ("もの", "つ"),
}
# before a noun, and as the name of the colour
_COLOURS = {
    "red": ("赤い", "赤"),
    "orange": ("オレンジ色の", "オレンジ色"),
    "yellow": ("黄色い", "黄色"),
    "green": ("緑の", "緑"),
    "blue": ("青い", "青"),
    "purple": ("紫の", "紫"),
    "black": ("黒い", "黒"),
    "white": ("白い", "白"),
}
_NUMBERS = ("", "一", "二", "三", "四", "五")
_SIDES = {"left": "左", "right": "右", "above": "上", "below": "下"}


def _phrase(kind: str | None, colour: str | None) -> str:
    return f"{_COLOURS[colour][0] if colour else ''}{_NOUNS[kind or 'thing'][0]}"


def _number(n: int, kind: str | None) -> str:
    return f"{_NUMBERS[n]}{_NOUNS[kind or 'thing'][1]}"


def _how_many(kind: str | None) -> str:
    counter = _NOUNS[kind or "thing"][1]
    return "いくつ" if counter == "つ" else f"何{counter}"


def _be(kind: str | None) -> str:
    """The stem of the polite verb: living things いる, others ある."""
    return "い" if kind == "fish" else "あり"


def describe(groups: Sequence[Group]) -> str:
    things = (f"{_phrase(group.kind, group.colour)}が{_number(group.n, group.kind)}" for group in groups)
    return f"画像には、{'、'.join(things)}描かれています。"


def ask_count(kind: str | None, colour: str | None) -> tuple[str, ...]:
    what, how_many = _phrase(kind, colour), _how_many(kind)
    return (
        f"{what}は{how_many}{_be(kind)}ますか？",
        f"{what}の数を教えてください。",
        f"{what}が{how_many}{'いる' if kind == 'fish' else 'ある'}か数えてください。",
        f"{what}は全部で{how_many}ですか？",
    )


def count(n: int, kind: str | None, colour: str | None) -> str:
    what = _phrase(kind, colour)
    return f"{what}は{_be(kind)}ません。" if n == 0 else f"{what}は{_number(n, kind)}{_be(kind)}ます。"


def ask_colour(kind: str) -> tuple[str, ...]:
    noun = _NOUNS[kind][0]
    return (f"{noun}は何色ですか？", f"{noun}の色は何ですか？", f"{noun}の色を教えてください。")


def colour(kind: str, colour: str) -> str:
    return f"{_NOUNS[kind][0]}の色は{_COLOURS[colour][1]}です。"


def ask_exists(kind: str, colour: str | None) -> tuple[str, ...]:
    what = _phrase(kind, colour)
    return (f"{what}は{_be(kind)}ますか？", f"この画像に{what}は{_be(kind)}ますか？", f"{what}が見えますか？")


def exists(n: int, kind: str, colour: str | None) -> str:
    what = _phrase(kind, colour)
    if n == 0:
        return f"いいえ、{what}は{_be(kind)}ません。"
    return f"はい、{what}が{_number(n, kind)}{_be(kind)}ます。"


def ask_neighbour(side: str, kind: str) -> tuple[str, ...]:
    where = f"{_NOUNS[kind][0]}の{_SIDES[side]}"
    return (f"{where}には何がありますか？", f"{where}にあるものは何ですか？", f"{where}に何が見えますか？")


def neighbour(side: str, kind: str, found: tuple[str, str] | None) -> str:
    where = f"{_NOUNS[kind][0]}の{_SIDES[side]}"
    return f"{where}には何もありません。" if found is None else f"{where}には{_phrase(*found)}が{_be(found[0])}ます。"


def ask_largest() -> tuple[str, ...]:
    return ("一番大きいものは何ですか？", "最も大きいのはどれですか？", "どれが一番大きいですか？")


def largest(kind: str, colour: str) -> str:
    return f"一番大きいのは{_phrase(kind, colour)}です。"
