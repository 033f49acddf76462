"""The page in a real browser. Without one these tests are skipped, and fail where CI is set."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from eval.report import drawing, write_report
from eval.report.figures import FIGURES
from eval.report.formats.html import html_text
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from tests.eval.report.factory import HOSTILE, Plan, make_experiment, sweep_record

SCREENSHOTS = Path(__file__).parents[3] / "outputs" / "screenshots"
PHONE, DESKTOP = (390, 844), (1280, 900)


def _browser_or_skip():
    if shutil.which("chromium") and shutil.which("chromedriver"):
        return
    reason = "needs Debian's packages chromium and chromium-driver"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser():
    _browser_or_skip()
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    effects = {"linear": 0.0, "ffn(depth=2)": 0.002, 'residual(inner=glu(activation="silu"))': 0.08, "tiny": -0.09}
    plan = Plan(
        effects=effects,
        datasets=("pydocs", "scifact", "cranfield"),
        failed={("ffn(depth=2)", 1): f"the loss was NaN at step 12 {HOSTILE}"},
        description=HOSTILE,
        texts={"query": f"which head {HOSTILE}", "document": f"a document {HOSTILE}"},
        storage={"fp16": (256, 0.0), "int8": (132, 0.001), "pq16": (16, 0.02)},
        sweep=sweep_record({0.0003: [0.4, 0.42, 0.38], 0.001: [0.5, 0.51, 0.49]}),
    )
    return write_report(make_experiment(tmp_path_factory.mktemp("page") / "small", plan))


def open_page(driver, page, size):
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE},
    )
    for log in ("browser", "performance"):
        driver.get_log(log)
    driver.get(page.as_uri())


def column(driver, index):
    return driver.execute_script(
        "return [...document.querySelectorAll('#table tbody tr')].filter(row => !row.hidden)"
        ".map(row => row.cells[arguments[0]].dataset.value)",
        index,
    )


def click_head(driver, index):
    driver.execute_script("document.querySelectorAll('#table thead button')[arguments[0]].click()", index)


def sort_state(driver, index):
    return driver.execute_script(
        "return document.querySelectorAll('#table thead th')[arguments[0]].getAttribute('aria-sort')", index
    )


def test_a_click_on_a_head_sorts_by_number_and_again_turns_round(browser, page):
    open_page(browser, page, DESKTOP)
    heads = browser.execute_script("return [...document.querySelectorAll('#table thead th')].map(h => h.innerText)")
    place = next(i for i, head in enumerate(heads) if head.startswith("parameters"))
    click_head(browser, place)
    down = column(browser, place)
    assert sort_state(browser, place) == "descending"
    numbers = [float(value) for value in down if value]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) > 2
    click_head(browser, place)
    up = column(browser, place)
    assert sort_state(browser, place) == "ascending"
    assert [float(value) for value in up if value] == sorted(numbers)
    # The references, which have no parameters, stay last both ways.
    assert [value for value in up if not value] == up[len(numbers) :] == down[len(numbers) :]
    assert sort_state(browser, 1) is None


def test_names_sort_from_a_to_z(browser, page):
    open_page(browser, page, DESKTOP)
    click_head(browser, 0)
    assert sort_state(browser, 0) == "ascending"
    names = column(browser, 0)
    assert names == sorted(names, key=str.lower)


def test_the_filter_keeps_rows_that_hold_every_word(browser, page):
    from selenium.webdriver.common.by import By

    open_page(browser, page, DESKTOP)
    field = browser.find_element(By.ID, "filter")
    field.send_keys("residual BETTER")
    assert column(browser, 0) == ['residual(inner=glu(activation="silu"))']
    assert browser.find_element(By.ID, "count").text == "1 of 7"
    field.clear()
    field.send_keys("no such thing")
    assert column(browser, 0) == []
    field.send_keys("\ue003" * 20)
    assert len(column(browser, 0)) == 7


def test_the_keyboard_reaches_the_heads_and_sorts(browser, page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    open_page(browser, page, DESKTOP)
    browser.find_element(By.ID, "filter").send_keys(Keys.TAB + Keys.TAB)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert sort_state(browser, 0) == "ascending"


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_nothing_leaves_the_page_and_nothing_fails_in_it(browser, page, size):
    open_page(browser, page, size)
    assert browser.get_log("browser") == []
    requests = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            requests.append(message["params"]["request"]["url"])
    assert requests == [page.as_uri()]


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_page_is_as_wide_as_the_screen_and_its_figures_are_drawn(browser, page, size):
    open_page(browser, page, size)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(svg => svg.getBoundingClientRect())"
        ".map(box => [box.width, box.height])"
    )
    assert len(boxes) == 7
    assert all(width > 200 and height > 60 for width, height in boxes)
    height = browser.execute_script("return document.documentElement.scrollHeight")
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": size[0], "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE},
    )
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    name = "phone" if size == PHONE else "desktop"
    assert browser.save_screenshot(str(SCREENSHOTS / f"leaderboard-{name}.png"))


@pytest.fixture(scope="module")
def wide_page(tmp_path_factory):
    """Long names, several datasets, and no column that only some experiments have."""
    effects = {
        "linear": 0.0,
        'residual(inner=glu(activation="silu", hidden_features=1536))': 0.05,
        'ffn(depth=3, hidden_features=1536, activation="gelu")': 0.1,
        'glu(activation="silu", bias=true)': -0.06,
    }
    plan = Plan(effects=effects, datasets=("pydocs", "scifact", "nfcorpus"))
    return write_report(make_experiment(tmp_path_factory.mktemp("wide") / "wide", plan))


@pytest.mark.parametrize("width", [1200, 1400])
def test_no_chosen_column_is_cut_off(browser, wide_page, width):
    open_page(browser, wide_page, (width, 900))
    shown = "return [...document.querySelectorAll('#table thead th')].filter(h => !h.hidden).map(h => h.innerText)"
    chosen = browser.execute_script(shown)
    widths = "const t = document.querySelector('#table'); return [t.scrollWidth, t.parentElement.clientWidth]"
    table, room = browser.execute_script(widths)
    assert table <= room
    assert not any("ahead" in head for head in chosen)  # these heads start on their own, so it is empty
    browser.execute_script("document.querySelector('#chooser').open = true")
    browser.execute_script("document.querySelectorAll('#chooser input').forEach(box => box.click())")
    assert len(browser.execute_script(shown)) > len(chosen) >= 8


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_every_verdict_is_read_without_scrolling_and_stands_once(browser, page, size):
    open_page(browser, page, size)
    texts, columns = browser.execute_script(
        "return ['.said', 'td.verdict'].map(kind => [...document.querySelectorAll(`#table tbody ${kind}`)]"
        ".filter(one => one.offsetParent && one.textContent)"
        ".map(one => [one.textContent, one.getBoundingClientRect().right]))"
    )
    shown, hidden = (texts, columns) if size == PHONE else (columns, texts)
    assert not hidden
    assert len(shown) == 7
    assert all(text and right <= size[0] for text, right in shown)


def test_letters_in_figures_do_not_lie_on_each_other(browser, page):
    open_page(browser, page, DESKTOP)
    overlaps = browser.execute_script(
        """
        const found = [];
        for (const name of ["forest", "seeds", "cost", "storage", "curves"]) {
          const texts = [...document.querySelectorAll(`#figure-${name} svg text`)];
          const boxes = texts.map((t) => t.getBoundingClientRect());
          for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {
            if (texts[i].getAttribute("transform")?.includes("rotate(-90")) continue;
            if (texts[j].getAttribute("transform")?.includes("rotate(-90")) continue;
            const wide = Math.min(boxes[i].right, boxes[j].right) - Math.max(boxes[i].left, boxes[j].left);
            const high = Math.min(boxes[i].bottom, boxes[j].bottom) - Math.max(boxes[i].top, boxes[j].top);
            if (wide > 1 && high > 3) found.push([name, texts[i].textContent, texts[j].textContent]);
          }
        }
        return found;
        """
    )
    assert overlaps == []


def test_hostile_text_is_shown_and_not_obeyed(browser, page):
    open_page(browser, page, DESKTOP)
    assert browser.title == "small: leaderboard"
    text = browser.execute_script("return document.body.textContent")
    shown = HOSTILE.replace("\u202e", "\ufffd").replace("\u202c", "\ufffd")
    assert text.count(shown) >= 4
    assert "\u202e" not in text
    assert browser.execute_script("return document.querySelectorAll('main img, main script').length") == 0
    # Text that reverses the writing direction is kept in a separate element.
    assert browser.execute_script(
        "return [...document.querySelectorAll('summary bdi')].some(b => b.textContent.includes('right to left'))"
    )


def test_every_input_and_region_has_a_name(browser, page):
    open_page(browser, page, DESKTOP)
    unnamed = browser.execute_script(
        """
        const named = (e) => e.getAttribute("aria-label")
          || document.getElementById(e.getAttribute("aria-labelledby"))?.textContent || e.labels?.[0]?.textContent;
        return [...document.querySelectorAll("input, [role=region], [role=img]")].filter((e) => !named(e)).length;
        """
    )
    assert unnamed == 0
    assert browser.execute_script("return document.documentElement.lang") == "en"
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_a_page_of_60_variants_13_data_sets_and_10_seeds_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    effects = {"linear": 0.0} | {f'residual(inner=glu(activation="silu", factor={i}))': 0.0005 * i for i in range(59)}
    plan = Plan(
        effects=effects,
        seeds=(0,),
        datasets=tuple(f"nano-data-set-{i}" for i in range(13)),
        queries=6,
        texts={"query": "a query of a usual length", "document": "300 letters " * 25},
        storage={form: (size, 0.001) for form, size in (("fp16", 256), ("int8", 132), ("pq32", 32), ("pq16", 16))},
    )
    experiment = load_experiment(make_experiment(tmp_path / "large", plan))
    trials = tuple(
        replace(trial, record=trial.record.replace(seed=seed)) for trial in experiment.trials for seed in range(10)
    )
    board = build_leaderboard(replace(experiment, trials=trials))
    with drawing.style():
        figures = {name: kind.draw(board) for name, kind in FIGURES.items()}
        drawn = {name: drawing.svg_bytes(figure) for name, figure in figures.items() if figure}
    assert len(drawn) == 6
    assert len(board.rows) == 60
    assert len(html_text(board, drawn).encode()) < 5_000_000
