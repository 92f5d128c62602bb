"""The page for everybody: by keyboard, by ear, from right to left, on a narrow phone, in the dark, without motion."""

from __future__ import annotations

import pytest
from axe import axe, violations
from page_browser import SCENE, browser, demo, opened, shown

from palo_cpp.languages.languages import LANGUAGES

__all__ = ["axe", "browser", "demo", "opened"]

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}

# Notes every text that a live region gets, as a screen reader would.
LISTEN = """() => {
  window.heard = [];
  const listener = new MutationObserver((changes) => {
    const added = changes.flatMap((change) => [...change.addedNodes]);
    heard.push(...added.map((node) => [node.textContent, node.lang || null]));
  });
  for (const region of document.querySelectorAll("[aria-live]")) listener.observe(region, { childList: true });
}"""


def focused(page):
    return page.tab.evaluate(
        "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
    )


def tab_to(page, name, key="Tab"):
    """Press a key until the focus is where it is wanted; nothing on the way is without a visible focus."""
    for _ in range(40):
        page.tab.keyboard.press(key)
        outline = page.tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid" or focused(page) == "BODY"
        if focused(page) == name:
            return
    raise AssertionError(f"{name} is not reached")


def test_a_conversation_by_keyboard_alone(opened):
    page = opened("hi")
    page.notice("demo")
    page.tab.keyboard.press("Tab")
    assert focused(page) == "skip"
    page.tab.keyboard.press("Enter")
    tab_to(page, "pick")
    page.tab.on("filechooser", lambda chooser: chooser.set_files(SCENE))
    page.tab.keyboard.press("Enter")
    page.tab.wait_for_selector("#pending:not([hidden])")
    assert focused(page) == "question"
    page.tab.keyboard.type("तस्वीर में कितने घर हैं?")
    page.tab.keyboard.press("Shift+Enter")
    page.tab.keyboard.press("Enter")
    assert page.answered().text_content() == "तस्वीर में एक घर है।"
    assert focused(page) == "question"
    tab_to(page, "copy", "Shift+Tab")
    page.tab.keyboard.press("Tab")
    page.tab.keyboard.press("Enter")
    assert page.tab.locator(".turn dl").is_visible()
    tab_to(page, "ask-all")
    page.tab.keyboard.press("Space")
    page.answered()
    assert focused(page) == "ask"
    assert page.tab.locator(".side-by-side > li").count() == 10
    tab_to(page, "new", "Shift+Tab")
    page.tab.keyboard.press("Enter")
    assert page.tab.locator(".turn").count() == 0 and focused(page) == "question"
    tab_to(page, "language", "Shift+Tab")
    page.tab.keyboard.press("End")
    assert page.tab.locator("html").get_attribute("lang") == "ja"


def test_what_has_the_focus_is_not_under_the_composer(opened):
    page = opened("en", viewport={"width": 1000, "height": 600})
    page.pick()
    for _ in range(3):
        page.ask("How many houses are there?")
    page.tab.focus("#new")
    for key in ["Tab"] * 12 + ["Shift+Tab"] * 12:
        page.tab.keyboard.press(key)
        where = page.tab.evaluate("""() => {
          const box = document.activeElement.getBoundingClientRect();
          const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
          return document.activeElement === document.body || document.activeElement.contains(top);
        }""")
        assert where, focused(page)


def test_enter_that_ends_a_composed_word_does_not_ask(opened):
    page = opened("ja")
    page.tab.fill("#question", "いえ")
    press = """(composing) => document.getElementById("question").dispatchEvent(
      new KeyboardEvent("keydown", { key: "Enter", isComposing: composing, bubbles: true, cancelable: true }))"""
    page.tab.evaluate(press, True)
    assert page.tab.locator("#question").input_value() == "いえ" and page.tab.locator(".turn").count() == 0
    page.tab.evaluate(press, False)
    page.answered()


@pytest.mark.parametrize("code", ["hi", "ur", "ja", "en"])
def test_screen_readers_are_given_whole_sentences(opened, code):
    sentences = {
        "hi": ["तस्वीर में एक घर है।", "घर लाल है।", "पेड़ हरा है।"],
        "ur": ["تصویر میں ایک گھر ہے۔", "گھر سرخ ہے۔", "درخت سبز ہے۔"],
        "ja": ["家が一軒あります。", "家は赤いです。", "木は緑です。"],
        "en": ["There is one house.", "It is 3.5 cm wide!", "Is the tree green?"],
    }[code]
    page = opened(code)
    page.notice("demo")
    page.tab.evaluate(LISTEN)
    page.tab.evaluate(
        """async ([code, text]) => {
          const { Speaker } = await import("/page/speech.js");
          const speaker = new Speaker(code);
          for (const piece of text) speaker.add(piece);
          speaker.end();
        }""",
        [code, ("" if code == "ja" else " ").join(sentences)],
    )
    assert page.tab.evaluate("heard") == [[sentence, code] for sentence in sentences]


def test_what_screen_readers_say_of_an_answer(opened):
    page = opened("ur")
    page.notice("demo")
    page.tab.evaluate(LISTEN)
    page.pick()
    answer = page.ask().text_content()
    added = [shown("pictureAdded", "ur", name="scene.png"), None]
    assert page.tab.evaluate("heard") == [added, [shown("answering", "ur"), None], [answer, "ur"]]
    assert page.tab.locator("[aria-live] .written, .written [aria-live]").count() == 0  # nothing is said twice


def test_it_fits_narrow_screens_and_large_letters_in_all_languages(opened):
    page = opened("en", **{**PHONE, "viewport": {"width": 320, "height": 640}})
    page.pick()
    page.ask("a" * 300)
    page.tab.click(".turn summary")
    page.tab.click("#ask-all")
    page.answered()
    page.pick()
    for code in LANGUAGES:
        page.choose_language(code)
        page.tab.evaluate("document.documentElement.style.fontSize = ''")
        assert page.shows_no_bar(), code
        page.tab.evaluate("document.documentElement.style.fontSize = '200%'")
        assert page.shows_no_bar(), code
        for button in page.tab.locator("#composer button:visible, .top button").all():
            assert button.evaluate("(node) => node.scrollWidth <= node.clientWidth"), (code, button.text_content())


@pytest.mark.parametrize("code", LANGUAGES)
def test_each_language_runs_in_its_direction(opened, code):
    page = opened(code)
    page.notice("demo")
    is_rtl = LANGUAGES[code].direction == "rtl"
    assert page.tab.locator("html").get_attribute("dir") == ("rtl" if is_rtl else "ltr")

    def left(selector):
        return page.tab.locator(selector).bounding_box()["x"]

    assert (left("h1") > left("#new")) == is_rtl
    assert (left("#pick") > left("#ask")) == is_rtl
    assert (left("#notice-demo span") > left("#notice-demo .close")) == is_rtl
    sides = page.tab.evaluate("getComputedStyle(document.getElementById('question')).direction")
    assert sides == ("rtl" if is_rtl else "ltr")  # of the example in the empty field
    page.tab.fill("#question", "سوال" if not is_rtl else "question")
    sides = page.tab.evaluate("getComputedStyle(document.getElementById('question')).direction")
    assert sides == ("ltr" if is_rtl else "rtl")  # of what is written
    names = page.tab.locator("#language option").all()
    assert [name.text_content() for name in names] == [language.own_name for language in LANGUAGES.values()]
    assert [name.get_attribute("lang") for name in names] == list(LANGUAGES)


def test_nothing_moves_where_that_is_not_wanted(opened):
    for wanted, name in (("no-preference", "breathe"), ("reduce", "none")):
        page = opened("en", reduced_motion=wanted)
        page.tab.route("**/v1/chat/completions", lambda _route: None)
        page.tab.fill("#question", "?")
        page.tab.click("#ask")
        assert page.tab.locator(".waiting").evaluate("(node) => getComputedStyle(node).animationName") == name


def violations_in_all_languages(page, source):
    found = {}
    for code in LANGUAGES:
        page.choose_language(code)
        page.tab.evaluate("window.scrollTo(0, document.body.scrollHeight)")  # the composer covers nothing there
        found[code] = violations(page.tab, source)
    return {code: rules for code, rules in found.items() if rules}


@pytest.mark.parametrize(("scheme", "device"), [("light", {}), ("dark", PHONE)], ids=["desk", "phone"])
def test_axe_finds_nothing_in_any_language(opened, axe, scheme, device):
    page = opened("en", color_scheme=scheme, **device)
    page.notice("demo")
    assert violations_in_all_languages(page, axe) == {}
    page.pick()
    page.ask()
    page.tab.click(".turn summary")
    page.tab.route("**/v1/chat/completions", lambda route: route.fulfill(status=500, json={"error": {"message": "x"}}))
    page.tab.fill("#question", "?")
    page.tab.click("#ask")
    page.tab.locator(".turn .error").wait_for()
    page.tab.click("#ask-all")
    page.answered()
    page.pick()
    assert violations_in_all_languages(page, axe) == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_question_for_a_key(opened, axe, scheme):
    page = opened("ur", color_scheme=scheme)
    page.tab.route("**/v1/models", lambda route: route.fulfill(status=401, json={}))
    page.tab.reload()
    page.tab.fill("#key-text", "wrong")
    page.tab.keyboard.press("Enter")
    page.tab.locator("#key-wrong").wait_for()
    assert violations(page.tab, axe) == []
