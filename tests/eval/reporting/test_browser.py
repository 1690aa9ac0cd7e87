"""The report page in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from eval.report import report_run
from tests.eval.reporting import chromium
from tests.eval.synthetic_run import make_run

pytestmark = pytest.mark.skipif(chromium.BINARY is None, reason="needs chromium")

DESKTOP, PHONE = (1280, 900), (390, 844)
VISIBLE = "[...document.querySelectorAll('.card')].filter(c => c.offsetParent !== null).length"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose responses hold markup and a script."""
    recipe = make_run(tmp_path_factory.mktemp("run"), prompts=60)
    return report_run(recipe) / "report.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    """One browser for all tests."""
    with chromium.page(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_loads_without_complaint_request_or_sideways_scrolling(
    report: Path, page: chromium.Page, size: tuple[int, int], scheme: str
) -> None:
    page.open(report, width=size[0], height=size[1], scheme=scheme)
    assert page.complaints() == []
    assert page.requests() == [report.resolve().as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    narrow = "[...document.querySelectorAll('figure svg')].filter(s => s.getBoundingClientRect()"
    assert page.evaluate(f"{narrow}.width < 150 && s.checkVisibility()).length") == 0


def test_text_and_charts_follow_light_and_dark(report: Path, page: chromium.Page) -> None:
    """Brightness of the page and of a chart's text, as far apart in both schemes."""
    brightness = "(c => c.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 3)"
    seen = {}
    for scheme in ("light", "dark"):
        page.open(report, width=DESKTOP[0], height=DESKTOP[1], scheme=scheme)
        back = page.evaluate(f"{brightness}(getComputedStyle(document.body).backgroundColor)")
        text = page.evaluate(
            f"{brightness}(getComputedStyle(document.querySelector('figure svg text')).fill)"
        )
        seen[scheme] = (back, text)
    assert seen["light"][0] > 230
    assert seen["light"][1] < 120
    assert seen["dark"][0] < 40
    assert seen["dark"][1] > 140


def test_the_verdict_is_what_a_reader_sees_first(report: Path, page: chromium.Page) -> None:
    page.open(report, width=PHONE[0], height=PHONE[1], scheme="light")
    lead = page.evaluate("document.querySelector('p.lead').getBoundingClientRect().top")
    assert lead < PHONE[1] / 2


def test_answers_are_searched_by_keyboard_alone(report: Path, page: chromium.Page) -> None:
    page.open(report, width=DESKTOP[0], height=DESKTOP[1], scheme="light")
    everything = page.evaluate(VISIBLE)
    page.press("/", text="/")
    page.call("Input.insertText", text="question 57")
    assert page.evaluate("document.activeElement.name") == "search"
    assert page.evaluate(VISIBLE) == 1
    assert page.evaluate("document.querySelector('output').textContent") == (
        f"1 of {everything} prompts"
    )
    page.press("ArrowDown")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    opened = "document.activeElement.parentElement.open"
    before = page.evaluate(opened)
    page.press("Enter")
    assert page.evaluate(opened) is not before
    page.press("ArrowUp")
    page.press("Escape")
    assert page.evaluate(VISIBLE) == everything


def test_answers_are_filtered_by_group_and_outcome(report: Path, page: chromium.Page) -> None:
    page.open(report, width=DESKTOP[0], height=DESKTOP[1], scheme="light")
    everything = page.evaluate(VISIBLE)
    choose = (
        "(name, value) => { const s = document.forms[0].elements[name]; s.value = value;"
        " s.dispatchEvent(new Event('input', {bubbles: true})); }"
    )
    page.evaluate(f"({choose})('group', 'spell')")
    assert page.evaluate(VISIBLE) == everything // 2
    page.evaluate(f"({choose})('outcome', 'beaten')")
    beaten = page.evaluate(VISIBLE)
    marked = "document.querySelectorAll('.card[data-group=spell][data-outcome=beaten]').length"
    assert beaten == page.evaluate(marked)


def test_what_a_model_wrote_can_neither_run_nor_load(report: Path, page: chromium.Page) -> None:
    page.open(report, width=DESKTOP[0], height=DESKTOP[1], scheme="light")
    assert page.evaluate("document.querySelectorAll('script').length") == 1
    fetched = page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'loaded', () => 'refused')")
    assert fetched == "refused"
    added = (
        "(() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        " document.body.append(s); return window.ran === undefined; })()"
    )
    assert page.evaluate(added) is True
    blocked = [text for text in page.complaints() if "Content Security Policy" in text]
    assert len(blocked) >= 2
