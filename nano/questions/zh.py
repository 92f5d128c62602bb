"""Chinese: a measure word for each noun; two before a measure word is 两."""

from __future__ import annotations

from collections.abc import Sequence

from nano.things import Group

DESCRIBE = (
    "这张图片里有什么？",
    "你看到了什么？",
    "请描述这张图片。",
    "图中有什么？",
)
OFF_TOPIC = (
    "总统是谁？",
    "现在几点？",
    "法国的首都是哪里？",
    "你是谁？",
    "给我讲个笑话。",
    "照片里的人在做什么？",
)
UNKNOWN = "我只认识简单的图画。"

# noun, measure word
_NOUNS = {
    "circle": ("圆形", "个"),
    "square": ("正方形", "个"),
    "triangle": ("三角形", "个"),
    "star": ("星星", "颗"),
    "heart": ("爱心", "颗"),
    "cross": ("十字", "个"),
    "house": ("房子", "座"),
    "tree": ("树", "棵"),
    "fish": ("鱼", "条"),
    "cup": ("杯子", "个"),
    "thing": ("图形", "个"),
}
_COLOURS = {
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "purple": "紫色",
    "black": "黑色",
    "white": "白色",
}
_NUMBERS = ("", "一", "两", "三", "四", "五")
_SIDES = {"left": "左边", "right": "右边", "above": "上面", "below": "下面"}


def _phrase(kind: str | None, colour: str | None) -> str:
    noun = _NOUNS[kind or "thing"][0]
    return f"{_COLOURS[colour]}的{noun}" if colour else noun


def _measure(kind: str | None) -> str:
    return _NOUNS[kind or "thing"][1]


def _some(n: int, kind: str | None, colour: str | None) -> str:
    return f"{_NUMBERS[n]}{_measure(kind)}{_phrase(kind, colour)}"


def describe(groups: Sequence[Group]) -> str:
    *first, last = (_some(group.n, group.kind, group.colour) for group in groups)
    return f"图中有{'、'.join(first) + '和' if first else ''}{last}。"


def ask_count(kind: str | None, colour: str | None) -> tuple[str, ...]:
    what, measure = _phrase(kind, colour), _measure(kind)
    return (
        f"图中有几{measure}{what}？",
        f"有多少{measure}{what}？",
        f"一共有几{measure}{what}？",
        f"数一数，{what}有几{measure}？",
    )


def count(n: int, kind: str | None, colour: str | None) -> str:
    return f"图中没有{_phrase(kind, colour)}。" if n == 0 else f"图中有{_some(n, kind, colour)}。"


def ask_colour(kind: str) -> tuple[str, ...]:
    noun = _NOUNS[kind][0]
    return (f"{noun}是什么颜色的？", f"{noun}是什么颜色？", f"请问{noun}的颜色是什么？")


def colour(kind: str, colour: str) -> str:
    return f"{_NOUNS[kind][0]}是{_COLOURS[colour]}的。"


def ask_exists(kind: str, colour: str | None) -> tuple[str, ...]:
    what = _phrase(kind, colour)
    return (f"图中有{what}吗？", f"有没有{what}？", f"你看到{what}了吗？")


def exists(n: int, kind: str, colour: str | None) -> str:
    return f"没有，图中没有{_phrase(kind, colour)}。" if n == 0 else f"有，图中有{_some(n, kind, colour)}。"


def ask_neighbour(side: str, kind: str) -> tuple[str, ...]:
    noun, where = _NOUNS[kind][0], _SIDES[side]
    return (f"{noun}的{where}是什么？", f"{noun}{where}有什么？", f"你在{noun}的{where}看到了什么？")


def neighbour(side: str, kind: str, found: tuple[str, str] | None) -> str:
    where = f"{_NOUNS[kind][0]}的{_SIDES[side]}"
    return f"{where}什么也没有。" if found is None else f"{where}有{_some(1, *found)}。"


def ask_largest() -> tuple[str, ...]:
    return ("最大的是什么？", "哪个图形最大？", "图中最大的图形是什么？")


def largest(kind: str, colour: str) -> str:
    return f"最大的是{_phrase(kind, colour)}。"
