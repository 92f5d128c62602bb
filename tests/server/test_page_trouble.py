"""The page in a real browser where something is wrong: no server, a busy one, a key, files that are no pictures."""

from __future__ import annotations

import json

import pytest
from page_browser import LONG_ANSWER, SCENE, browser, demo, opened, serving, shown, texts
from running_server import RunningServer, drawing

from palo_cpp.languages.languages import LANGUAGES

__all__ = ["browser", "demo", "opened"]

KEY = "correct horse"

# Answers as a server of any speed might send them: byte by byte, so that no character and no line arrives whole.
SLOW_STREAM = """(script) => {
  const encoder = new TextEncoder();
  window.fetch = new Proxy(window.fetch, {
    apply(target, self, [url, options]) {
      if (!String(url).endsWith("/v1/chat/completions")) return Reflect.apply(target, self, [url, options]);
      const bytes = encoder.encode(script.lines.map((line) => `data: ${line}\\n\\n`).join(""));
      let at = 0;
      const body = new ReadableStream({
        async pull(controller) {
          if (options.signal.aborted) controller.error(options.signal.reason);
          else if (at < bytes.length) controller.enqueue(bytes.slice(at, (at += 1)));
          else if (!script.stays) controller.close();
          else await new Promise((left) => options.signal.addEventListener("abort", left));
        },
      });
      return Promise.resolve(new Response(body));
    },
  });
}"""


def chunk(text):
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}, ensure_ascii=False)


def ended(**told):
    known = {"finish_reason": "stop", "language_detected": "hi", "language_ok": True, "first_token_s": 1, "decode_s": 1}
    counts = dict.fromkeys(
        ("n_generated", "n_prompt_tokens", "n_cached_tokens", "n_images_encoded", "n_turns_dropped"), 0
    )
    return json.dumps({"choices": [{"index": 0, "delta": {}, "palo": {**known, **counts, **told}}]})


@pytest.fixture
def scripted(opened):
    """Opens a page to which a server of the test's own says something."""

    def open_scripted(lang, *lines, stays=False):
        page = opened(lang)
        page.notice("demo")
        page.tab.evaluate(SLOW_STREAM, {"lines": lines, "stays": stays})
        page.tab.fill("#question", "?")
        page.tab.click("#ask")
        return page

    return open_scripted


def error_of(page):
    found = page.tab.locator(".turn:last-child .notes > .error")
    found.wait_for()
    return found.text_content()


def test_no_server(opened):
    with serving() as (child, url):
        page = opened("ur", url=url)
        page.notice("demo")
        page.pick()
        child.kill()
        child.wait()
        page.tab.click("#ask")
        assert error_of(page) == shown("notReached", "ur")
        assert page.notice("offline").locator("span").text_content() == shown("offline", "ur")
    with serving(port=int(url.rpartition(":")[2])):
        page.tab.locator("#notice-offline").wait_for(state="detached")
        assert shown("online", "ur") in page.tab.locator("#said p").all_text_contents()
        page.tab.click(".retry")
        assert page.answered().get_attribute("lang") == "ur"
        assert page.tab.locator(".turn").count() == 1 and page.tab.locator(".turn .error").count() == 0


def test_a_server_that_leaves_in_the_middle(scripted):
    page = scripted("hi", chunk("तस्वीर में एक लाल घर है। "))
    assert error_of(page) == shown("lost", "hi")
    assert page.tab.locator(".written").text_content() == "तस्वीर में एक लाल घर है। "


def test_a_server_that_fails_in_the_middle(scripted):
    error = {"error": {"message": "model: could not go on", "code": "failed", "type": "server_error", "param": None}}
    page = scripted("ja", chunk("家"), json.dumps(error))
    assert error_of(page) == shown("failed", "ja")
    page.tab.click(".turn .notes summary")
    said = page.tab.locator(".turn .notes details p")
    assert said.text_content() == "model: could not go on" and said.get_attribute("lang") == "en"


def test_stopping_in_the_middle_keeps_what_there_is(scripted):
    page = scripted("hi", chunk("एक घर"), stays=True)
    page.tab.locator(".written", has_text="एक घर").wait_for()
    page.tab.click("#stop")
    page.tab.locator(".notes", has_text=shown("stopped", "hi")).wait_for()
    assert page.tab.locator(".copy").count() == 1 and page.tab.locator("#question").input_value() == ""


def test_a_stream_in_single_bytes(scripted):
    text = "تصویر میں ایک گھر ہے۔ یہ سرخ ہے 🏠"
    page = scripted("ur", *map(chunk, text), ended(language_detected="ur"), "[DONE]")
    assert page.answered().text_content() == text


@pytest.mark.parametrize(
    ("told", "key"),
    [
        ({"finish_reason": "length"}, "cutOff"),
        ({"n_turns_dropped": 2}, "turnsDropped"),
        ({"language_ok": False, "language_detected": "en"}, "otherLanguage"),
    ],
)
def test_what_is_to_be_known_of_an_answer(scripted, told, key):
    page = scripted("hi", chunk("A house."), ended(**told), "[DONE]")
    answer = page.answered()
    assert page.tab.locator(".answer .notes").text_content() == shown(key, "hi")
    assert answer.get_attribute("lang") == told.get("language_detected", "hi")


def test_a_busy_server_is_asked_again(nano, opened):
    with RunningServer(nano, n_parallel=1, n_queue=0) as server:
        page = opened("ar", url=server.url)
        page.notice("demo")
        page.pick()
        with server.connected() as other:
            body = json.dumps({**LONG_ANSWER, "max_tokens": 900}).encode()
            other.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            other.sendall(body)
            while not server.server.service.desk.n_running:
                page.tab.wait_for_timeout(5)
            page.tab.click("#ask")
            note = page.tab.locator(".turn > .notes", has_text=shown("busyWait", "ar", seconds="2"))
            note.wait_for()
        assert page.answered().get_attribute("lang") == "ar"
        assert note.count() == 0


def test_a_server_that_stays_busy(opened):
    page = opened("fr")
    busy = {"error": {"message": "server: expected a free place", "code": "busy"}}
    page.tab.route("**/v1/chat/completions", lambda route: route.fulfill(status=503, json=busy))
    page.tab.clock.install()
    page.tab.fill("#question", "?")
    page.tab.click("#ask")
    for _ in range(5):
        page.tab.locator(".turn > .notes p", has_text=shown("busyWait", "fr", seconds="1")).wait_for()
        page.tab.clock.run_for(1100)
    assert error_of(page) == shown("busy", "fr")
    assert page.tab.locator(".retry").is_enabled()


def test_a_server_with_a_key(opened):
    with serving("--api-key", KEY) as (_child, url):
        page = opened("ja", url=url)
        dialog = page.tab.locator("#key")
        dialog.wait_for()
        assert page.tab.locator("#key-wrong").is_hidden()
        page.tab.keyboard.type("another key")
        page.tab.keyboard.press("Enter")
        page.tab.locator("#key-wrong").wait_for()
        assert page.tab.locator("#key-wrong").text_content() == shown("keyWrong", "ja")
        page.tab.fill("#key-text", KEY)
        page.tab.keyboard.press("Enter")
        page.notice("demo")
        assert dialog.is_hidden()
        page.pick()
        assert page.ask().get_attribute("lang") == "ja"
        assert KEY not in page.tab.evaluate("JSON.stringify(localStorage) + document.cookie")
        page.tab.reload()
        page.notice("demo")
        assert dialog.is_hidden()  # the tab knows it
        other = page.another_tab()
        other.tab.locator("#key").wait_for()  # another one does not
        other.tab.keyboard.press("Escape")
        other.tab.fill("#question", "?")
        other.tab.click("#ask")
        other.tab.locator("#key").wait_for()
        other.tab.fill("#key-text", "another key")
        other.tab.keyboard.press("Enter")
        other.tab.locator("#key-wrong").wait_for()
        other.tab.click("#key-cancel")
        assert error_of(other) == shown("keyMissing", "ja")


def test_a_picture_that_this_server_finds_too_large_is_made_smaller(nano, opened):
    with RunningServer(nano, limits={"n_pixels": 2_000_000}) as server:
        page = opened("en", url=server.url)
        page.pick({"name": "a.png", "mimeType": "image/png", "buffer": drawing("red", "circle", (2000, 1500))})
        assert page.ask().text_content() == "The picture shows a red circle."
        said = page.notice("pictureScaled").locator("span").text_content()
        assert said == shown("pictureScaled", "en", width="1,024", height="768")


def test_a_file_that_is_too_large_for_this_server_is_made_smaller(nano, opened):
    with RunningServer(nano, limits={"image_bytes": 5000}) as server:
        page = opened("en", url=server.url)
        large = drawing("red", "circle") + bytes(5000)
        page.pick({"name": "a.png", "mimeType": "image/png", "buffer": large})
        assert page.ask().text_content() == "The picture shows a red circle."
        assert page.notice("pictureScaled").is_visible()


def test_a_file_that_is_no_picture_is_not_taken(opened):
    page = opened("bn")
    page.tab.set_input_files("#file", {"name": "a.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4"})
    assert page.notice("notPicture").locator("span").text_content() == shown("notPicture", "bn")
    assert page.tab.locator("#pending").is_hidden()


def test_a_picture_that_the_server_cannot_read(opened):
    page = opened("zh")
    page.pick({"name": "a.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\n and nothing"})
    assert page.tab.locator("#thumbnail").is_hidden() and page.tab.locator("#pending-name").text_content() == "a.png"
    page.tab.click("#ask")
    assert error_of(page) == shown("notPicture", "zh")


def test_nothing_to_ask(opened):
    page = opened("es")
    page.tab.click("#ask")
    assert page.notice("needQuestion").locator("span").text_content() == shown("needQuestion", "es")
    page.tab.click("#ask-all")
    assert page.notice("needPicture").locator("span").text_content() == shown("needPicture", "es")
    page.tab.click("#notice-needPicture .close")
    assert page.tab.locator("#notice-needPicture").count() == 0
    assert not [request for request in page.requests if request.method == "POST"]


def test_more_pictures_than_a_conversation_holds(opened):
    page = opened("en")
    for _ in range(8):
        page.pick()
        page.ask()
    page.tab.set_input_files("#file", SCENE)
    assert page.notice("tooMany").locator("span").text_content() == shown("tooMany", "en", count="8")


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_conversation_that_is_too_long(opened, code):
    page = opened(code)
    page.tab.fill("#question", "a b c " * 3000)
    page.tab.click("#ask")
    assert error_of(page) == texts()["tooLong"][code]


def test_storage_that_is_refused(opened):
    page = opened("hi")
    page.context.add_init_script("""for (const name of ["localStorage", "sessionStorage"])
      Object.defineProperty(window, name, { get() { throw new DOMException("no", "SecurityError"); } });""")
    page.tab.reload()
    page.notice("demo")
    page.choose_language("ja")
    page.pick()
    assert page.ask().get_attribute("lang") == "ja"
