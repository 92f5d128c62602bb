"""The page in a real browser: conversations in several languages, tabs, reloads, pictures from everywhere."""

from __future__ import annotations

import base64
import json

import pytest
from page_browser import LONG_ANSWER, SCENE, browser, demo, opened, shown
from PIL import Image

from palo_cpp.languages.languages import LANGUAGES

__all__ = ["browser", "demo", "opened"]

QUESTIONS = {
    "hi": ("तस्वीर में कितने घर हैं?", "घर का रंग क्या है?"),
    "ur": ("تصویر میں کتنے گھر ہیں؟", "گھر کا رنگ کیا ہے؟"),
    "ja": ("家はいくつありますか？", "家は何色ですか？"),
}
NUMBER_OF_PICTURES = -1  # the last of the numbers


def expected(nano, code, *questions, image=SCENE):
    """What the library answers."""
    with nano.chat(image, lang=code) as chat:
        return [chat.ask(question).text for question in questions]


@pytest.mark.parametrize("code", QUESTIONS)
def test_a_conversation(opened, nano, code):
    page = opened(code)
    page.pick()
    said = [page.ask(question) for question in ("", *QUESTIONS[code])]
    assert [answer.text_content() for answer in said[-1:]] == expected(nano, code, "", *QUESTIONS[code])[-1:]
    written = page.tab.locator(".written")
    assert written.all_text_contents() == expected(nano, code, "", *QUESTIONS[code])
    for i in range(3):
        assert written.nth(i).get_attribute("lang") == code
        assert written.nth(i).get_attribute("dir") == LANGUAGES[code].direction
    assert page.tab.locator(".turn h2").all_text_contents() == [shown("describe", code), *QUESTIONS[code]]
    assert page.tab.locator("html").get_attribute("lang") == code
    assert page.tab.title() == shown("title", code)


def test_a_follow_up_question_encodes_nothing_and_says_so(opened):
    page = opened("en")
    page.pick()
    page.ask()
    page.ask("How many houses are there?")
    sent = json.loads(page.requests[-1].post_data)["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert [part["type"] for part in sent[0]["content"]] == ["image_url"]
    assert sent[1]["content"] == page.tab.locator(".written").first.text_content()
    assert sent[2]["content"] == [{"type": "text", "text": "How many houses are there?"}]
    numbers = page.tab.locator(".turn:last-child dd")
    assert not numbers.first.is_visible()
    page.tab.locator(".turn:last-child summary").click()
    assert numbers.first.is_visible()
    assert numbers.all_text_contents()[NUMBER_OF_PICTURES] == "0"
    labels = dict(
        zip(page.tab.locator(".turn:last-child dt").all_text_contents(), numbers.all_text_contents(), strict=True)
    )
    assert int(labels["Of these kept from before"]) > 50 and labels["From question to end"].endswith("sec")


def test_all_languages_side_by_side(opened, nano):
    page = opened("fr")
    page.pick()
    page.tab.fill("#question", "How many houses are there?")
    page.tab.click("#ask-all")
    page.answered()
    cards = page.tab.locator(".side-by-side > li")
    assert cards.locator("h3").all_text_contents() == [language.own_name for language in LANGUAGES.values()]
    texts = {
        card.locator(".written").get_attribute("lang"): card.locator(".written").text_content() for card in cards.all()
    }
    answers = nano.describe(SCENE, question="How many houses are there?")
    assert texts == {code: answer.text for code, answer in answers.items()}
    directions = [card.get_attribute("dir") for card in cards.locator(".written").all()]
    assert directions == [language.direction for language in LANGUAGES.values()]
    assert page.tab.locator("#pending").is_visible()  # the picture is still there to be asked about


def test_the_answer_may_be_in_another_language_than_the_page(opened, nano):
    page = opened("en")
    page.pick()
    page.tab.select_option("#answer-language", "ur")
    answer = page.ask()
    assert (answer.text_content(), answer.get_attribute("dir")) == (expected(nano, "ur", "")[0], "rtl")
    assert page.tab.locator("html").get_attribute("dir") == "ltr"
    page.choose_language("ja")
    assert page.tab.locator("#answer-language").input_value() == "ur"  # it was chosen
    assert page.tab.locator(".turn h2").text_content() == shown("describe", "ja")


@pytest.mark.parametrize(("lang", "code"), [("ur-PK", "ur"), ("zh-TW", "zh"), ("de-AT", "en"), ("bn", "bn")])
def test_the_first_language_is_the_browsers(opened, lang, code):
    page = opened(lang)
    assert page.tab.locator("html").get_attribute("lang") == code
    assert page.tab.locator("#language").input_value() == page.tab.locator("#answer-language").input_value() == code


def test_the_language_is_remembered_and_each_tab_keeps_its_own(opened):
    first = opened("en")
    first.choose_language("hi")
    second = first.another_tab()
    assert second.tab.locator("html").get_attribute("lang") == "hi"
    second.choose_language("ar")
    first.tab.reload()
    first.notice("demo")
    assert first.tab.locator("html").get_attribute("lang") == "hi"
    assert first.another_tab().tab.locator("html").get_attribute("dir") == "rtl"


def test_two_tabs_at_once(opened, nano):
    page = opened("hi")
    tabs = [page, page.another_tab()]
    tabs[1].choose_language("ja")
    for tab, code in zip(tabs, ("hi", "ja"), strict=True):
        tab.pick()
        tab.tab.fill("#question", QUESTIONS[code][0])
    for tab in tabs:
        tab.tab.evaluate("document.getElementById('ask').click()")
    answers = [tab.answered().text_content() for tab in tabs]
    assert answers == [expected(nano, code, QUESTIONS[code][0])[0] for code in ("hi", "ja")]
    tabs[0].tab.click("#new")
    assert tabs[0].tab.locator(".turn").count() == 0
    assert tabs[1].ask(QUESTIONS["ja"][1]).text_content() == expected(nano, "ja", *QUESTIONS["ja"])[1]


def test_a_reload_keeps_the_language_and_says_that_the_conversation_is_gone(opened):
    page = opened("en")
    page.choose_language("ur")
    page.pick()
    page.ask()
    page.tab.reload()
    assert page.notice("reloaded").locator("span").text_content() == shown("reloaded", "ur")
    assert page.tab.locator("html").get_attribute("dir") == "rtl" and page.tab.locator(".turn").count() == 0
    page.tab.reload()
    page.notice("demo")
    assert page.tab.locator("#notice-reloaded").count() == 0


def test_a_new_conversation_knows_nothing_of_the_old_one(opened):
    page = opened("en")
    page.pick()
    page.ask()
    page.tab.click("#new")
    assert page.tab.locator("#intro").is_visible() and page.tab.locator(".turn").count() == 0
    page.ask("Hello")
    sent = json.loads(page.requests[-1].post_data)
    assert sent["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]


def transferred(kind):
    """Sends the page an event with a file, as the browser does when the user drops or pastes one."""
    return f"""(data) => {{
      const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], "scene.png", {{ type: "image/png" }}));
      {kind}
    }}"""


@pytest.mark.parametrize(
    "send",
    [
        """document.dispatchEvent(new DragEvent("dragover", { dataTransfer: transfer, cancelable: true }));
           document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, cancelable: true }));""",
        """document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));""",
    ],
    ids=["drop", "paste"],
)
def test_pictures_are_dropped_and_pasted(opened, nano, send):
    page = opened("es")
    page.tab.evaluate(transferred(send), base64.b64encode(SCENE.read_bytes()).decode())
    page.tab.wait_for_selector("#pending:not([hidden])")
    assert page.tab.locator("#drop").is_hidden()
    assert page.ask().text_content() == expected(nano, "es", "")[0]


def test_pictures_are_picked_and_photographed(opened):
    page = opened("en", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    for button in ("#pick", "#photo"):
        with page.tab.expect_file_chooser() as chooser:
            page.tab.click(button)
        chooser.value.set_files(SCENE)
        page.tab.wait_for_selector("#pending:not([hidden])")
        page.tab.click("#remove")
        assert page.tab.locator("#pending").is_hidden()
    assert page.tab.locator("#camera").get_attribute("capture") == "environment"


def test_the_demo_says_that_it_is_one_and_has_a_picture_to_try(opened, nano):
    page = opened("bn")
    assert page.notice("demo").locator("span").text_content() == shown("demo", "bn", model="PALO-Nano")
    page.tab.click("#example")
    page.tab.wait_for_selector("#pending:not([hidden])")
    assert page.ask().text_content() == expected(nano, "bn", "")[0]


def test_another_model_is_no_demo_and_offers_its_own_languages(opened):
    page = opened("hi")
    model = {"id": "other", "languages": ["en", "ar"], "is_demo": False}
    page.tab.route("**/v1/models", lambda route: route.fulfill(json={"data": [model]}))
    page.tab.reload()
    page.tab.wait_for_function("() => document.getElementById('answer-language').length === 2")
    assert page.tab.locator("#notice-demo").count() == 0 and page.tab.locator("#example").is_hidden()
    assert page.tab.locator("#answer-language").input_value() == "en"


def test_a_photo_of_20_megapixels_is_sent_as_it_is(opened, nano, tmp_path):
    photo = tmp_path / "photo.jpg"
    Image.open(SCENE).convert("RGB").resize((5472, 3648)).save(photo, quality=95)
    page = opened("hi")
    page.pick(photo)
    assert page.ask().text_content() == expected(nano, "hi", "", image=photo)[0]
    sent = json.loads(page.requests[-1].post_data)["messages"][0]["content"][0]["image_url"]["url"]
    assert sent == "data:image/jpeg;base64," + base64.b64encode(photo.read_bytes()).decode()
    assert page.tab.locator("#notice-pictureScaled").count() == 0


def test_a_picture_beyond_the_limit_is_made_smaller_and_that_is_said(opened, nano, tmp_path):
    large = tmp_path / "big.bmp"
    Image.open(SCENE).convert("RGB").resize((3000, 2400)).save(large)
    page = opened("ru")
    page.pick(large)
    said = page.notice("pictureScaled").locator("span").text_content()
    assert said == shown("pictureScaled", "ru", width="1\u00a0024", height="819")
    assert page.ask().text_content() == expected(nano, "ru", "")[0]
    assert page.tab.locator(".asked img").get_attribute("alt") == shown("pictureAlt", "ru", name="big.bmp")


def test_what_is_asked_is_text_and_nothing_else(opened):
    page = opened("en")
    evil = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    page.ask(evil)
    assert page.tab.locator(".turn h2").text_content() == evil and page.tab.title() == shown("title", "en")


def test_copying(opened, nano):
    page = opened("ar", permissions=["clipboard-read", "clipboard-write"])
    page.pick()
    page.ask()
    page.tab.click(".copy")
    assert page.tab.evaluate("navigator.clipboard.readText()") == expected(nano, "ar", "")[0]
    assert page.tab.locator(".copy").text_content() == shown("copied", "ar")


def test_copying_where_the_browser_has_no_clipboard_for_pages(opened, nano):
    page = opened("ar")
    page.context.add_init_script("delete Navigator.prototype.clipboard")
    page.tab.reload()
    page.pick()
    page.ask()
    page.tab.click(".copy")
    page.tab.locator(".copy", has_text=shown("copied", "ar")).wait_for()
    page.tab.focus("#question")
    page.tab.keyboard.press("Control+V")
    assert page.tab.locator("#question").input_value() == expected(nano, "ar", "")[0]


def test_stopping_before_the_answer_gives_question_and_picture_back(opened, nano):
    from running_server import RunningServer

    with RunningServer(nano, n_parallel=1) as server:
        page = opened("hi", url=server.url)
        page.pick()
        with server.connected() as other:
            body = json.dumps(LONG_ANSWER).encode()
            other.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            other.sendall(body)
            page.tab.fill("#question", QUESTIONS["hi"][0])
            page.tab.click("#ask")
            page.tab.wait_for_selector("#stop:not([hidden])")
            page.tab.click("#stop")
            page.tab.wait_for_selector("#ask:not([hidden])")
        assert page.tab.locator(".turn .notes", has_text=shown("stopped", "hi")).count() == 1
        assert page.tab.locator("#question").input_value() == QUESTIONS["hi"][0]
        assert page.tab.locator("#pending").is_visible()
        assert server.idle()
