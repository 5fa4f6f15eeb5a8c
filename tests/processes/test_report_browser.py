"""The report in a real browser: charts, filters, hover and hidden lines work, in dark and light and on a phone."""

import importlib.util
import shutil
import time

import pytest
from report_rows import EVIL, first_file, second_file

from gradkernels.bench.report.page.html import page
from gradkernels.bench.report.page.sources import sources_of
from gradkernels.bench.report.units import interval, seconds, share
from gradkernels.bench.stats.estimates import Ratio

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
MISSING = [
    name
    for name, there in (
        ("chromium (apt-get install chromium)", CHROMIUM),
        ("chromedriver (apt-get install chromium-driver)", DRIVER),
        ("selenium (pip install 'gradkernels[dev]')", importlib.util.find_spec("selenium")),
    )
    if not there
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the page is tried in a browser: needs {', '.join(MISSING)}")
DESK, PHONE = (1280, 900), (390, 844)


class Page:
    """The report of two files, open in a browser."""

    def __init__(self, driver, address):
        self.driver, self.address = driver, address
        self.open()

    def open(self, size=DESK, scheme="light"):
        self.look(size, scheme)
        self.driver.get(self.address)
        self.draw_all()

    def reset(self):
        """Undo what a reader can do: as quick as nothing, where opening the page again takes a second."""
        self.driver.execute_script("form.reset(); apply(); setHidden([]); scrollTo(0, 0)")
        self.draw_all()

    def look(self, size, scheme):
        """Be a window of another size, on a dark or light desktop."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})

    def js(self, code, *arguments):
        return self.driver.execute_script(f"return {code}", *arguments)

    def draw_all(self):
        """Draw what has not come into view yet."""
        self.js("document.querySelectorAll('.panels .plot').forEach(drawPlot)")

    def choose(self, name, value):
        self.driver.execute_script(
            "const choice = document.querySelector(arguments[0]); choice.value = arguments[1];"
            "choice.dispatchEvent(new Event('change', {bubbles: true}))",
            name,
            value,
        )
        self.draw_all()

    def names(self, chart, panel=0):
        """The names of the lines with markers in a chart."""
        traces = (
            "[...document.querySelectorAll('[data-chart=' + arguments[0] + '] .js-plotly-plot')][arguments[1]].data"
        )
        return self.js(
            f"{traces}.filter((one) => (one.mode ?? '').includes('markers')).map((one) => one.name)", chart, panel
        )

    def until(self, code, *arguments):
        """Wait for something in the page, 5 seconds at most."""
        end = time.monotonic() + 5
        while not (found := self.js(code, *arguments)):
            assert time.monotonic() < end, code
            time.sleep(0.02)
        return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    # Without a network: whatever the page asked for would be an error in the console.
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "host-resolver-rules=MAP * ~NOTFOUND"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(page(sources_of([("a.csv", first_file()), ("b.csv", second_file())])), encoding="utf-8")
    yield Page(driver, file.as_uri())
    driver.quit()


@pytest.fixture
def shown(browser):
    """The page as it is when it opens; afterwards there must be nothing in its console, and nothing fetched."""
    browser.reset()
    yield browser
    browser.look(DESK, "light")
    assert browser.driver.get_log("browser") == []
    assert browser.js("performance.getEntriesByType('resource').map((one) => one.name)") == []


def test_charts_have_a_line_for_each_kernel(shown):
    norms = shown.js("DATA.families.findIndex((one) => one.where.quantity === 'norms')")
    assert shown.js("document.querySelectorAll('[data-chart=time] .js-plotly-plot').length") == 2
    evil = EVIL.replace("<", "&lt;").replace(">", "&gt;")
    wanted = {"numpy.loop", "numpy.broadcast+", "torch.vmap+", evil}
    assert set(shown.names("time", norms)) == {*wanted, "crossover"}
    assert set(shown.names("memory")) == set(shown.names("speed")) == wanted  # the only panels that have any
    assert shown.js("document.querySelectorAll('.main-svg .scatterlayer path.js-line').length") > 10


def test_a_name_that_looks_like_a_script_is_text(shown):
    assert shown.js("document.querySelectorAll('script').length") == 7
    assert EVIL in shown.js("[...document.querySelectorAll('.legend')][0].innerText")
    shown.choose("select[name=quantity]", "norms")
    assert EVIL in shown.js("document.getElementById('case-table').innerText")


def test_filters_leave_what_they_name(shown):
    shown.choose("select[name=quantity]", "norms")
    assert shown.js("document.querySelectorAll('[data-chart=time] .js-plotly-plot').length") == 1
    rows = "[...document.querySelectorAll('#winners tbody tr')].filter((one) => one.offsetParent)"
    visible = f"{rows}.map((one) => one.innerText)"
    (row,) = shown.js(visible)
    assert row.startswith("norms")
    shown.choose("select[name=quantity]", "gradient")
    assert shown.names("time") == ["numpy.loop+"]
    shown.choose("select[name=dtype]", "float64")
    assert shown.js(visible) == []
    shown.choose("select[name=quantity]", "")
    assert len(shown.js(visible)) == 1


def test_hovering_says_what_was_measured(shown):
    shown.choose("select[name=quantity]", "norms")
    shown.js("document.getElementById('time').scrollIntoView()")
    dot = "document.querySelector('[data-chart=time] .js-plotly-plot .points path')"
    shown.until(f"{dot} !== null")
    box = shown.js(f"(({dot}).getBoundingClientRect().toJSON())")
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    for step in (3, 0):
        shown.driver.execute_cdp_cmd(
            "Input.dispatchMouseEvent", {"type": "mouseMoved", **place, "x": place["x"] + step}
        )
    told = shown.until("document.querySelector('.hoverlayer .hovertext')?.textContent")
    assert "n = 10" in told
    assert "of the memory limit" in told
    assert "passes: " in told


def test_a_click_on_a_name_hides_its_lines_and_another_shows_them(shown):
    shown.choose("select[name=quantity]", "norms")
    button = (
        "[...document.querySelectorAll('#time .legend button')].find((one) => one.textContent === 'numpy.broadcast')"
    )
    shown.js(f"{button}.click()")
    assert "numpy.broadcast+" not in shown.names("time")
    assert "numpy.broadcast+" not in shown.names("memory")
    assert shown.js(f"{button}.getAttribute('aria-pressed')") == "false"
    shown.js(f"{button}.click()")
    assert "numpy.broadcast+" in shown.names("time")


def test_the_baseline_is_the_readers(shown):
    shown.choose("select[name=quantity]", "norms")
    shown.choose("#baseline", "numpy.loop")
    lines = "document.querySelector('[data-chart=speed] .js-plotly-plot').data"
    line = f"{lines}.find((one) => one.name === 'numpy.broadcast+').y"
    assert shown.js(line) == pytest.approx([0.5, 100 / 44, 5.0], rel=1e-3)
    shown.choose("#baseline", "numpy.broadcast")
    assert shown.js(line) == pytest.approx([1, 1, 1])


def test_a_cell_opens_its_case(shown):
    cells = "[...document.querySelectorAll('.cell')]"
    shown.js(f"{cells}.find((one) => one.dataset.n === '1000' && one.innerText.includes('broadcast')).click()")
    rows = shown.js("[...document.querySelectorAll('#case-table tbody tr')].map((one) => one.innerText.split('\\t'))")
    assert [row[0] for row in rows] == ["numpy.broadcast+.norms", "torch.vmap+.norms", EVIL, "numpy.loop.norms"]
    assert rows[0][1:3] == ["200.0 µs", "fastest"]
    assert rows[1][2].startswith("1.50 [1.5")
    assert "jax.vmap+.norms: unsupported: no </script>" in shown.js("document.getElementById('case-notes').innerText")


def test_numbers_are_written_as_in_the_tables(shown):
    times = [3e-9, 9.99996e-7, 1.5e-6, 1.23456e-3, 0.99999, 0.0099, 12.0, 999.96, 4321.0]
    assert shown.js("arguments[0].map(seconds)", times) == [seconds(value) for value in times]
    shares = [1e-5, 1e-4, 0.00456, 0.0999, 0.1, 0.75, 1.02]
    assert shown.js("arguments[0].map(percent)", shares) == [share(value) for value in shares]
    ratios = [(1.05, 0.98, 1.12), (1.5, 1.4, 1.62), (2.0, 0.0, 1e9), (0.5, 0.4, 0.6), (95.0, 90.0, 105.0)]
    wanted = [interval(Ratio(*ratio, 8)) for ratio in ratios]
    assert shown.js("arguments[0].map((one) => interval(...one))", ratios) == wanted
    assert shown.js("interval(162.4, 111.9, 1234.5)") == "162 [112, 1,235]"


def test_changes_and_history_mark_the_sure_step(shown):
    rows = "[...document.querySelectorAll('.step tbody tr')].map((one) => one.innerText)"
    (row,) = shown.js(rows)
    assert row.startswith("numpy.broadcast+.norms")
    assert "surely slower" in row
    shown.choose(".step select", "all")
    assert len(shown.js(rows)) == 15
    assert shown.js("document.getElementById('history-choice').selectedOptions[0].text").startswith("n = 100, norms")
    # Without the lines, some of which have triangles of their own.
    marks = "document.getElementById('history-chart').data.filter((one) => one.mode === 'markers')"
    assert shown.js(f"{marks}.flatMap((one) => one.marker.symbol)") == ["triangle-up"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_dark_on_light_or_light_on_dark(shown, scheme):
    shown.look(DESK, scheme)
    colours = "getComputedStyle(document.body).{}.match(/\\d+/g).slice(0, 3).reduce((sum, one) => sum + Number(one), 0)"
    text, back = (shown.js(colours.format(name)) for name in ("color", "backgroundColor"))
    assert (back - text if scheme == "light" else text - back) > 400
    tick = "getComputedStyle(document.querySelector('.xtick text')).fill.match(/\\d+/g).slice(0, 3).map(Number)"
    assert (sum(shown.js(tick)) < 300) == (scheme == "light")
    # On paper it is always light.
    shown.js("dispatchEvent(new Event('beforeprint'))")
    assert sum(shown.js(tick)) < 300
    shown.js("dispatchEvent(new Event('afterprint'))")
    assert (sum(shown.js(tick)) < 300) == (scheme == "light")


def test_charts_are_as_wide_as_paper_while_it_is_printed(shown):
    shown.open(DESK)
    wide = (
        "Math.max(...[...document.querySelectorAll('.plot .main-svg')].map((one) => "
        "one.getBoundingClientRect().right - one.closest('figure').getBoundingClientRect().right))"
    )
    before = shown.js("document.querySelector('.plot .main-svg').getBoundingClientRect().width")
    shown.js("dispatchEvent(new Event('beforeprint'))")
    assert shown.js("document.body.clientWidth") == 700
    assert shown.js(wide) <= 0
    shown.js("dispatchEvent(new Event('afterprint'))")
    assert abs(shown.js("document.querySelector('.plot .main-svg').getBoundingClientRect().width") - before) < 1
    assert shown.js("document.querySelector('.plot').layout.width") is None  # which would keep it from its window's


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_nothing_is_wider_than_the_window_or_over_what_is_below(shown, size):
    shown.open(size)
    shown.choose(".step select", "all")
    assert shown.js("document.documentElement.scrollWidth") <= size[0]
    wide = (
        "[...document.querySelectorAll('body *')].filter((one) => one.offsetParent && !one.closest('.wide, svg') "
        "&& one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 200))"
    )
    assert shown.js(wide) == []
    over = (
        "[...document.querySelectorAll('.main-svg')].filter((one) => one.getBoundingClientRect().bottom "
        "> one.closest('figure').getBoundingClientRect().bottom + 1).length"
    )
    assert shown.js(over) == 0
    assert shown.js("document.querySelectorAll('figure').length") >= 4
