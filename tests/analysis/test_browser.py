"""The report in a real browser: a click sorts, words filter, links lead, and names stay names."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.color import Color

from analysis.report.__main__ import main
from analysis.style import on_dark

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
EVIL = "<script>document.title = 'taken'</script>"

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(DRIVER is None, reason="chromedriver is not installed"),
    # One browser for the module: xdist is not to start several.
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    folder = tmp_path_factory.mktemp("profile")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder}",
    ):
        options.add_argument(argument)
    options.add_argument("--window-size=1200,900")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, writer_to: Any, draw_only: Any) -> Path:
    runs_dir, out = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("out")
    write_run = writer_to(runs_dir)
    plain = {"setting": {}, "typed": {}, "ruleset_file": None, "experiment": None}
    for optimizer, value in (("adam", 95.0), ("sgd", 9.5), ("kfac", 97.0)):
        told = {"protocol": {}, "origin": {"command": [f"optimizer={optimizer}"], **plain}}
        for seed in (0, 1):
            run_id = f"{optimizer}{seed}"
            folder = write_run(optimizer, seed, (value - 1, value), run_id=run_id, **told)
            (folder / "config.yaml").write_text(f"seed: {seed}\nname: {optimizer}\n")
    write_run(EVIL, 0, status="failed", reason=EVIL, rows=[], run_id="bad")
    with pytest.MonkeyPatch.context() as patch:
        draw_only(patch, "test_metric_vs_epoch")
        assert main(["--runs", str(runs_dir), "--out", str(out)]) == 0
    return out / "report.html"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, writer_to: Any) -> Path:
    """A report of two runs with every figure that they have."""
    runs_dir, out = tmp_path_factory.mktemp("two"), tmp_path_factory.mktemp("two_out")
    for optimizer in ("adafisher", "adamw"):
        writer_to(runs_dir)(optimizer)
    assert main(["--runs", str(runs_dir), "--out", str(out)]) == 0
    return out / "report.html"


@pytest.fixture
def page(report: Path, browser: Any) -> Any:
    browser.get(report.as_uri())
    browser.refresh()  # the address may differ in its end alone, which loads nothing
    return browser


def rows_of(page: Any, table: str = "results") -> list[str]:
    region = page.find_element(By.CSS_SELECTOR, f'[aria-label="{table}"]')
    rows = region.find_elements(By.CSS_SELECTOR, "tbody tr")
    return [row.find_element(By.TAG_NAME, "th").text for row in rows if row.is_displayed()]


def header(page: Any, text: str, table: str = "results") -> Any:
    region = page.find_element(By.CSS_SELECTOR, f'[aria-label="{table}"]')
    (found,) = (
        button for button in region.find_elements(By.TAG_NAME, "button") if button.text == text
    )
    return found


def test_it_opens_without_a_word_on_the_console(page: Any) -> None:
    assert page.title == "AdaFisher benchmark: results"
    assert [entry["message"] for entry in page.get_log("browser")] == []


def test_a_name_that_is_a_script_stays_a_name(page: Any) -> None:
    assert page.title != "taken"
    assert len(page.find_elements(By.TAG_NAME, "script")) == 1
    assert EVIL in page.find_element(By.ID, "failures").text


def test_a_click_or_a_key_sorts_and_tells_a_screen_reader(page: Any) -> None:
    final = header(page, "final")
    final.click()
    # As numbers: 9.5 before 95; what has no value is last.
    assert rows_of(page)[:3] == ["sgd", "adam", "kfac"]
    assert final.find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
    final.send_keys(Keys.ENTER)
    assert rows_of(page)[:3] == ["kfac", "adam", "sgd"]
    assert rows_of(page)[3].startswith("<script>")
    assert final.find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"
    header(page, "optimizer").click()
    assert rows_of(page)[1:] == ["adam", "kfac", "sgd"]
    assert final.find_element(By.XPATH, "..").get_attribute("aria-sort") == "none"


def test_words_filter(page: Any) -> None:
    """Only a table of some length has a field."""
    page.find_element(By.CSS_SELECTOR, "details:has(#table-table8_budgets) summary").click()
    assert "sgd" in rows_of(page, "table8_budgets")
    region = page.find_element(By.CSS_SELECTOR, '[aria-label="table8_budgets"]')
    label = region.find_element(By.XPATH, "preceding-sibling::label[1]")
    box = label.find_element(By.TAG_NAME, "input")
    texts = [row.text for row in region.find_elements(By.CSS_SELECTOR, "tbody tr")]
    expected = [text.split()[0] for text in texts if "shampoo" in text.lower()]
    box.send_keys("SHAMPOO")
    assert rows_of(page, "table8_budgets") == expected
    said = label.find_element(By.TAG_NAME, "output").text
    assert said == f"{len(expected)} of {len(texts)} rows"
    box.send_keys(Keys.CONTROL + "a")
    box.send_keys(Keys.DELETE)
    assert len(rows_of(page, "table8_budgets")) > 5


def test_a_number_leads_to_its_command_and_its_runs(page: Any) -> None:
    region = page.find_element(By.CSS_SELECTOR, '[aria-label="results"]')
    region.find_element(By.LINK_TEXT, "97.00 ± 0.00").click()
    group = page.find_element(By.CSS_SELECTOR, "details:target")
    assert group.get_attribute("open") is not None
    assert "optimizer=kfac seed=0,1" in group.find_element(By.TAG_NAME, "pre").text
    run = page.find_element(By.ID, "run-kfac1")
    assert run.is_displayed()
    assert run.text.startswith("kfac1 1 done 97.00 97.00")
    assert len(run.find_elements(By.TAG_NAME, "polyline")) == 2


def test_without_scripts_a_number_still_leads_to_its_runs(report: Path, browser: Any) -> None:
    disabled = "Emulation.setScriptExecutionDisabled"
    browser.execute_cdp_cmd(disabled, {"value": True})
    browser.get(report.as_uri())
    browser.find_element(By.LINK_TEXT, "97.00 ± 0.00").click()
    shown = browser.find_element(By.CSS_SELECTOR, "details:target").is_displayed()
    buttons = browser.find_elements(By.TAG_NAME, "button")
    browser.execute_cdp_cmd(disabled, {"value": False})
    assert shown
    assert buttons == []


def test_a_figure_has_its_data_one_click_away(page: Any) -> None:
    figure = page.find_element(By.ID, "figure-test_metric_vs_epoch")
    link = figure.find_element(By.LINK_TEXT, "csv").get_attribute("href")
    text = Path(unquote(urlsplit(link).path)).read_text("utf-8")
    assert text.startswith("subplot,kind,series,x,y,value")
    assert ",line,kfac (n=2),2.0,97.0," in text


def test_dark_and_print_are_told_apart(page: Any) -> None:
    background = "return getComputedStyle(document.body).backgroundColor"
    seen = set()
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        seen.add(page.execute_script(background))
    assert len(seen) == 2
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    label = page.find_element(By.CSS_SELECTOR, "label.filter")
    assert not label.is_displayed()
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_every_control_can_be_reached_and_has_a_name(page: Any) -> None:
    nameless = page.execute_script(
        "const named = (e) => e.textContent.trim() || e.ariaLabel || e.labels?.[0]?.textContent;"
        "return [...document.querySelectorAll('button, input, a, summary, [role=region]')]"
        ".filter((e) => !named(e)).map((e) => e.outerHTML)"
    )
    assert nameless == []
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert page.switch_to.active_element.text == "Skip to the result"
    focusable = "a, button, input, summary, [tabindex='0']"
    visible = page.execute_script(
        "return [...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility())"
        ".length",
        focusable,
    )
    reached, last = [], page.find_element(By.TAG_NAME, "body")
    while (active := page.switch_to.active_element) != last and active not in reached[:1]:
        reached.append(active)
        active.send_keys(Keys.TAB)
    assert len(reached) == visible
    assert json.dumps(page.get_log("browser")) == "[]"


HEIGHTS = {"two runs": (1400, 4000), "two runs on a phone": (390, 6000)}


@pytest.mark.parametrize(("width", "most"), HEIGHTS.values(), ids=HEIGHTS.keys())
def test_a_page_of_two_runs_is_short_and_no_wider_than_the_screen(
    whole: Path, browser: Any, width: int, most: int
) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 1000}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(whole.as_uri())
    size = "return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    found_width, height = browser.execute_script(size)
    seen = {
        name: browser.find_element(By.CSS_SELECTOR, name).rect["y"]
        for name in (".answer", ".facts", "#table-results", ".pair figure")
    }
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert found_width <= width
    assert height < most
    assert list(seen.values()) == sorted(seen.values())
    assert seen[".pair figure"] < 900


def test_a_verdict_and_its_command_are_within_the_screen(whole: Path, browser: Any) -> None:
    metrics = {"width": 1400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(whole.as_uri())
    browser.execute_script("for (const e of document.querySelectorAll('details')) e.open = true")
    rows = browser.find_elements(
        By.CSS_SELECTOR, "#table-published_vs_reproduced .compact tbody tr"
    )
    rects = [row.find_elements(By.TAG_NAME, "td")[-1].rect for row in rows]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert len(rects) == 159
    assert max(rect["x"] + rect["width"] for rect in rects) <= 1400
    assert max(rect["height"] for rect in rects) < 30


def test_a_figure_follows_light_and_dark_and_fits_a_phone(page: Any) -> None:
    figure = page.find_element(By.CSS_SELECTOR, "#figure-test_metric_vs_epoch svg[role=img]")
    (text,) = (one for one in figure.find_elements(By.TAG_NAME, "text") if one.text == "epoch")
    (line, *_) = (  # adam's
        path
        for path in figure.find_elements(By.TAG_NAME, "path")
        if path.value_of_css_property("stroke") == "rgb(0, 114, 178)"
    )
    seen: dict[str, tuple[str, str]] = {}
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        colours = (text.value_of_css_property("fill"), line.value_of_css_property("stroke"))
        seen[scheme] = (Color.from_string(colours[0]).hex, Color.from_string(colours[1]).hex)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    assert seen["light"] == ("#000000", "#0072b2")
    assert seen["dark"] == (on_dark("#000000").lower(), on_dark("#0072b2").lower())
    font = "return getComputedStyle(arguments[0]).fontFamily"
    assert page.execute_script(font, text).startswith("system-ui")
    narrow = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    box = figure.rect
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert 300 < box["x"] + box["width"] <= 390
