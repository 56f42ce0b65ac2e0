"""The page is well-formed, self-contained and accessible, and no text of a corpus becomes markup."""

import json
import re
from html.parser import HTMLParser

from tests.report.rendering import render_markdown
from tests.report.rendering import render_page as render

VOID = {"meta", "br", "hr", "img", "input", "link", "line", "rect", "circle", "polyline", "polygon"}


class Page(HTMLParser):
    """Parse a page; fail where tags do not nest, and keep what the tests need."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text, self.headings, self.ids = [], [], [], [], []
        self.parents = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values, tuple(self.open)))
        if "id" in values:
            self.ids.append(values["id"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    def of(self, *names):
        return [(tag, values, around) for tag, values, around in self.tags if tag in names]


def test_the_page_is_well_formed_and_accessible(page_text):
    """Tags nest, ids are unique, headings skip no level, tables have captions and scopes, plots have titles."""
    page = Page(page_text)
    assert len(page.ids) == len(set(page.ids))
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in zip(page.headings, page.headings[1:], strict=False))
    assert len(page.of("caption")) == len(page.of("table")) > 5
    assert all(values.get("scope") in ("row", "col") for _, values, _ in page.of("th"))
    plots = page.of("svg")
    titles = [around for _, _, around in page.of("title") if "svg" in around]
    assert len(titles) == len(plots) > 2
    assert all(values["role"] == "img" for _, values, _ in plots)
    references = [values["href"] for _, values, _ in page.of("a")]
    assert references[0] == "#answer"
    for reference in references:
        assert reference.removeprefix("#") in page.ids or re.fullmatch(
            r"(figures|tables)/[\w-]+\.(svg|pdf|csv)", reference
        )
    for _, values, _ in page.tags:
        for name in values.get("aria-labelledby", "").split():
            assert name in page.ids


def test_the_page_is_small_and_needs_no_network(page_text):
    """It is a single file without scripts, fonts or external images, far below 3 MB."""
    page = Page(page_text)
    assert page.of("script", "link", "iframe", "object", "embed", "img", "base", "form") == []
    assert not any(name in values for _, values, _ in page.tags for name in ("src", "srcset", "xlink:href", "action"))
    assert not re.search(r"url\(|@import|https?://", page_text)
    assert not any(name.startswith("on") for _, values, _ in page.tags for name in values)
    assert len(page_text.encode()) < 1_000_000


def test_hostile_texts_of_a_corpus_or_log_are_escaped(evidence):
    """Every level, model, language, reason and note is hostile: there is no additional tag, and all texts are shown."""
    hostile = "<script>alert('B1')</script>&amp;\""
    poisoned = json.loads(json.dumps(evidence).replace("B1", json.dumps(hostile)[1:-1]))
    before, after = Page(render(evidence)), Page(render(poisoned))
    assert after.of("script") == []
    # A level's name affects only text: the tags and their order are the same.
    assert [tag for tag, _, _ in before.tags] == [tag for tag, _, _ in after.tags]
    assert hostile in " ".join(after.text)


def test_the_page_shows_the_headline_verdicts_and_numbers_of_the_evidence(evidence):
    """The headline, every verdict and every number of the matrix occur as text."""
    page = Page(render(evidence))
    text = " ".join(page.text)
    assert evidence["answer"]["headline"] in text
    for row in evidence["matrix"]["rows"]:
        for cell in row["cells"].values():
            # It occurs once in the heat map and once in the table.
            assert text.count(shown(cell["value"])) >= 2
    for finding in evidence["findings"]:
        assert finding["verdict"] in text


def shown(value):
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def test_only_a_synthetic_corpus_is_announced_as_synthetic(evidence):
    """Readers must not take the demonstration for a finding about learners."""
    assert "proves nothing about learners" in render(evidence)
    real = {**evidence, "corpus": {**evidence["corpus"], "synthetic": False, "notice": None}}
    assert "proves nothing about learners" not in render(real)


def test_passages_shared_between_splits_are_counted(evidence):
    """It counts passages, links by common texts and pairs not compared; without the counts there is no table."""
    counts = {
        "test_documents_with_passages_of_train": 12,
        "test_documents_mostly_of_train": 3,
        "documents_with_passages_of_prompts": None,
        "texts_not_tied": 45,
        "near_pairs_not_compared": 1678,
    }
    page = render({**evidence, "leakage": {**evidence["leakage"], **counts}})
    table = re.search(r'id="table-passages".*?</table>', page, flags=re.DOTALL)[0]
    assert [number.replace(",", "") for number in re.findall(r">([\d,]+)<", table)] == ["12", "3", "45", "1678"]
    assert "table-passages" not in render(evidence)


def test_a_leak_is_shown_as_an_alarm(evidence):
    """Documents in two splits make all scores worthless; the page says so beside the splits."""
    assert "cannot be trusted" not in render(evidence)
    leaking = {**evidence, "leakage": {**evidence["leakage"], "texts_in_two_splits": 3}}
    assert "cannot be trusted" in render(leaking)


def test_missing_records_are_reported_as_missing(evidence):
    """A run without infilling times, or that lost a summary, still has a page."""
    less = {**evidence, "speed": None, "corpus": None, "leakage": None, "examples": None, "scoring": {}, "curves": []}
    text = " ".join(Page(render(less)).text)
    for phrase in (
        "was not measured",
        "no summary",
        "left no record",
        "No answers were generated",
        "No validation losses",
    ):
        assert phrase in text


def test_speed_is_shown_per_model_and_batch(evidence):
    """Latency and throughput are given per model and batch."""
    timing = {"latency_p50_s": 0.0123, "latency_p95_s": 0.02, "tokens_per_second": 1234.5}
    speed = {"all": {"device": "cpu", "batches": {"1": timing, "32": timing}}}
    text = " ".join(Page(render({**evidence, "speed": speed})).text)
    assert "12.3\N{NO-BREAK SPACE}ms" in text
    assert "1,234" in text


def test_the_page_follows_the_system_colour_scheme_and_prints(page_text):
    """It is dark if the reader's system is dark, and black on white in print."""
    assert "prefers-color-scheme: dark" in page_text
    assert "@media print" in page_text


def test_the_limits_of_the_leak_search_are_stated(evidence):
    """Page and Markdown count the pairs that were not compared, and say what cannot be found."""
    leakage = {**evidence["leakage"], "near_pairs_not_compared": 1234, "passage_words": 13}
    leakage |= {"test_documents_with_passages_of_train": 7}
    values = {**evidence, "leakage": leakage}
    text = " ".join(Page(render(values)).text)
    assert "It cannot find translations, paraphrases, or a learner with two ids." in text
    for row in ("were not compared: too many look alike", "share a passage of 13 words with a train document"):
        assert row in text
    assert "1,234" in text
    assert "1,234" in render_markdown(values)
