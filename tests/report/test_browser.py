"""The page in a real browser, where there is one: Debian's chromium and chromium-driver."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onnxslim import run
from onnxslim.report import page, search_page
from onnxslim.search import Budget, search

webdriver = pytest.importorskip("selenium.webdriver")
BROWSER, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
MODEL = Path(__file__).parents[2] / "models" / "transformer_encoder" / "model.onnx"
PHONE, DESKTOP = (390, 844), (1280, 900)

pytestmark = [
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="chromium and its driver are not there"),
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    outcome = run(MODEL, check="off")
    path = tmp_path_factory.mktemp("page") / "report.html"
    text = page(outcome.report, outcome.model, "model.onnx", "lossless")
    path.write_text(text.replace("<details>", "<details open>"), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module", params=[PHONE, DESKTOP], ids=["phone", "desktop"])
def driver(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A browser with a window of that size."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    width, height = request.param
    metrics = {"width": width, "height": height, "mobile": False}
    options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield found
    found.quit()


@pytest.fixture
def browser(driver: Any, address: str) -> Any:
    """The page, opened anew."""
    driver.get(address)
    return driver


def column(browser: Any, table: int, place: int) -> list[str]:
    """Return what stands in a column, of the rows that are seen."""
    script = """return [...document.querySelectorAll("table")[arguments[0]].tBodies[0].rows]
        .filter((row) => !row.hidden).map((row) => row.cells[arguments[1]].textContent)"""
    return list(browser.execute_script(script, table, place))


def title(browser: Any, table: int, place: int) -> Any:
    script = 'return document.querySelectorAll("table")[arguments[0]].querySelectorAll("th button")'
    return browser.execute_script(script + "[arguments[1]]", table, place)


def test_no_script_fails(browser: Any) -> None:
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_nothing_is_wider_than_the_page(browser: Any) -> None:
    script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(script) <= 0


def test_the_page_of_a_search_fits_and_runs(driver: Any, tmp_path: Path) -> None:
    result = search(MODEL, "random:16", Budget(max_drop=1.0), metric="sqnr", time_limit=5)
    (tmp_path / "search.html").write_text(search_page(result, "model.onnx"), encoding="utf-8")
    driver.get((tmp_path / "search.html").as_uri())
    test_no_script_fails(driver)
    test_nothing_is_wider_than_the_page(driver)


def test_a_click_on_a_title_sorts(browser: Any) -> None:
    title(browser, 0, 2).click()
    numbers = [int(text) for text in column(browser, 0, 2)]
    assert numbers == sorted(numbers, reverse=True)


def test_another_click_sorts_the_other_way(browser: Any) -> None:
    for _ in range(2):
        title(browser, 0, 0).click()
    names = column(browser, 0, 0)
    assert names == sorted(names, key=str.lower)


def test_a_text_filters(browser: Any) -> None:
    box = browser.find_element("css selector", "input[type=search]")
    box.send_keys("Concat")
    assert column(browser, 0, 0) == ["Concat"]


def test_short_tables_have_no_filter(browser: Any) -> None:
    script = """return [...document.querySelectorAll("table")].map((table) =>
        [table.tBodies[0].rows.length > 10, table.parentNode.previousSibling?.type === "search"])"""
    assert all(long == filtered for long, filtered in browser.execute_script(script))
