"""The page in a browser, with VisCPM behind it: two languages, one picture, what a follow-up question reads again."""

from __future__ import annotations

import re
from contextlib import ExitStack

import pytest

pytest.importorskip("playwright.sync_api", reason="the extra `page-tests` is not installed")

from page_browser import SCENE, Page, browser, serving, shown

__all__ = ["browser"]


@pytest.fixture
def page_of(browser):
    """Opens the page of a folder, in a language."""
    with ExitStack() as stack:

        def open_page(folder, lang):
            _child, url = stack.enter_context(serving("-m", str(folder), "-c", "300"))
            context = browser.new_context(locale=lang, viewport={"width": 1000, "height": 800})
            stack.callback(context.close)
            return Page(context, url)

        yield open_page


def test_a_conversation_in_chinese(page_of, viscpm_folder):
    page = page_of(viscpm_folder, "zh")
    page.tab.wait_for_function("document.querySelectorAll('#answer-language option').length == 2")
    offered = page.tab.locator("#answer-language option")
    assert [offered.nth(i).get_attribute("value") for i in range(2)] == ["zh", "en"]
    page.pick()
    assert page.ask("图中有什么？").text_content()
    page.tab.set_input_files("#file", SCENE)  # a second picture
    assert "1" in page.notice("tooMany").text_content()
    page.ask("为什么？")
    page.tab.locator(".turn:last-child summary").click()
    labels = page.tab.locator(".turn:last-child dt").all_text_contents()
    numbers = dict(zip(labels, page.tab.locator(".turn:last-child dd").all_text_contents(), strict=True))
    assert int(numbers[shown("repeatedTokens", "zh")]) > 8
    assert numbers[shown("picturesEncoded", "zh")] == "0"
    page.tab.click("#ask-all")
    page.answered()
    assert page.tab.locator(".side-by-side > li h3").all_text_contents() == ["中文", "English"]
    assert page.complaints == []


def test_a_reader_of_another_language_is_answered_in_one_that_the_model_knows(page_of, viscpm_folder):
    page = page_of(viscpm_folder, "hi")
    page.tab.wait_for_function("document.querySelectorAll('#answer-language option').length == 2")
    page.pick()
    assert page.ask().text_content()  # in Chinese, which is the first
    assert page.tab.locator("html").get_attribute("lang") == "hi" and page.complaints == []
    assert re.search("zh|en", page.tab.locator(".written").get_attribute("lang"))


def test_a_language_model_alone_offers_no_pictures(page_of, text_folder):
    page = page_of(text_folder, "en")
    page.tab.wait_for_selector("#pick", state="hidden")
    assert not page.tab.locator("#ask-all").is_visible()
    assert page.ask("What is this?").text_content() and page.complaints == []
