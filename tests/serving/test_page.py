"""The page in a real browser: by mouse, by keyboard, in a narrow window, and with hostile texts."""

import re
import shutil

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)")
HOSTILE = '<img src=x onerror="document.title=1"> <b>tea</b> & 😀 [laughs]'


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """Open the page; a test fails if the browser reports any error, such as a violation of its policy."""
    page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme="dark")
    page.set_default_timeout(120_000)
    complaints = []
    page.on("console", lambda message: " 422 " in message.text or complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith((address, "data:")) or complaints.append(request.url))
    page.goto(address)
    page.locator("#run", has_text="tiny").wait_for()  # not wait_for_function: the page's policy forbids eval
    yield page
    page.close()
    assert complaints == []


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth") <= 400


def test_words_are_blanked_and_filled_with_the_mouse(page):
    """Two adjacent words become one blank; the models' fillings are shown side by side, with probabilities."""
    page.fill("#text", "We drink it very hot.")
    page.fill("#samples", "2")
    page.fill("#first-word", "like")
    page.fill("#max-words", "1")
    for word in ("drink", "hot", "very"):
        page.click(f"#words button:text-is('{word}')")
    with page.expect_request("**/api/fill") as asked:
        page.click("#fill")
    kinds = [(blank["start"], blank["stop"], blank["kind"]) for blank in asked.value.post_data_json["blanks"]]
    assert kinds == [(3, 8, "word"), (12, 20, "ngram")]
    assert [asked.value.post_data_json[name] for name in ("first_word", "max_words")] == ["like", 1]
    page.wait_for_selector("#filled .card")
    assert page.locator("#filled h3").all_inner_texts() == ["A1", "C1", "all (general)"]
    assert page.locator("#filled li").count() == 6
    first = page.locator("#filled li").first.inner_text()
    assert first.startswith("We ")
    assert "probability: " in first
    assert [mark[:4] for mark in page.locator("#filled li").first.locator("mark").all_inner_texts()] == ["like"] * 2
    assert fits(page)
    page.fill("#text", "Another text")
    assert page.locator("#filled .card").count() == 0, "what was said of another text is gone"


def test_every_function_is_usable_with_the_keyboard(page):
    """Arrow keys move between tabs and words; the focused word's numbers are read out for every model."""
    page.focus("#words button")
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "Space", "End", "ArrowLeft"):
        page.keyboard.press(key)
    pressed = page.locator("#words button[aria-pressed=true]")
    assert pressed.all_inner_texts() == ["went"]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "samples", "the words are one stop"
    page.focus("#tab-fill")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-read", "aria-selected") == "true"
    for _ in range(2):
        page.keyboard.press("Tab")
    page.focus("#read")
    page.keyboard.press("Enter")
    page.wait_for_selector("#coloured .card")
    page.focus("#coloured span[tabindex='0']")
    page.keyboard.press("ArrowRight")
    numbers = page.inner_text("#numbers")
    assert numbers.startswith("“summer”: A1 ")
    assert numbers.count(" bits") == 3
    told = page.inner_text("#level-sentence")
    assert told.startswith("Most like ")
    assert re.search(r"lowest perplexity was that of the right level for \d+\.\d % of \d+ test .* may differ", told)
    assert page.locator("#level-table tbody tr").count() == 2
    assert page.locator("#coloured span.same").count() == 3
    assert fits(page)


def test_hostile_text_is_escaped_in_the_page(page):
    """This holds in words, in the models' fillings, in the coloured tokens and in messages."""
    page.fill("#text", HOSTILE)
    assert page.inner_text("#words") == HOSTILE
    page.click("#words button:text-is('tea')")
    page.click("#fill")
    page.wait_for_selector("#filled .card")
    assert '<img src=x onerror="document.title=1"> <b>' in page.locator("#filled li").first.inner_text()
    page.click("#tab-read")
    page.click("#read")
    page.wait_for_selector("#coloured .card")
    assert page.locator("#coloured .coloured").first.inner_text() == HOSTILE
    assert page.locator("#words img, #filled img, #coloured img, #filled b").count() == 0
    page.fill("#text", "<i>[wrod]</i>")
    page.click("#tab-fill")
    page.click("#fill")
    page.wait_for_selector("#problem:not(:empty)")
    assert "found '[wrod]'; did you mean '[word]'?" in page.inner_text("#problem")
    assert page.title() == "raysweep: try the models"


def test_the_report_opens_in_its_tab(page):
    """It is the same page that the run wrote."""
    page.click("#tab-report")
    frame = page.frame_locator("#report")
    frame.locator("h1").wait_for()
    assert "language model per level" in frame.locator("h1").inner_text()
