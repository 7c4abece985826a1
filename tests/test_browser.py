"""In a real browser: the published page at two widths, and two notebooks in JupyterLab.

Needs Chromium and its driver (Debian: chromium, chromium-driver; .ci/run installs them).
Screenshots stay in runs/screenshots/, to be looked at.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from companion import params, tasks
from companion.commands import reproduce
from companion.exhibits import page
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.page import Placed
from companion.params import ROOT
from companion.study.roles import Evidence
from companion.tasks import countdown

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SHOTS = ROOT / "runs" / "screenshots"
REPORT = ROOT / "results" / "laptop" / "report.html"

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER) and not os.environ.get("CI"),
    reason="Chromium and chromedriver are not installed (Debian: chromium, chromium-driver)",
)


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'browser'}",
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    SHOTS.mkdir(parents=True, exist_ok=True)
    yield driver
    driver.quit()


def resize(browser, width, height):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": width < 600,
        },
    )


@pytest.mark.skipif(not REPORT.exists(), reason="the laptop profile is not published yet")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_reads_at_this_width_without_errors_or_a_network(browser, width):
    resize(browser, width, 900)
    browser.get(REPORT.as_uri())
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width  # wide tables scroll inside their own frame
    images = browser.find_elements(By.TAG_NAME, "img")
    assert len(images) >= 2
    for image in images:
        assert browser.execute_script("return arguments[0].naturalWidth", image) > 0
        assert image.get_attribute("alt")
    tall = browser.execute_script("return document.documentElement.scrollHeight")
    resize(browser, width, min(tall, 16000))
    browser.save_screenshot(str(SHOTS / f"report-{width}.png"))
    assert browser.get_log("browser") == []
    assert [url for url in requests(browser) if url.startswith(("http", "ws"))] == []


def requests(browser):
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


HOSTILE = [
    "<script>hacked=1</script>", "<img src=x onerror=hacked=1>", "<svg onload=hacked=1>",
    "<svg><script>hacked=1</script></svg>", "<iframe srcdoc='<script>top.hacked=1</script>'></iframe>",
    "<body onload=hacked=1>", "<details open ontoggle=hacked=1>", "<video><source onerror=hacked=1>",
    "<input autofocus onfocus=hacked=1>", "<math><mtext></math><img src=x onerror=hacked=1>",
    "<style>@import 'x'</style><img src=x onerror=hacked=1>", "<meta http-equiv=refresh content='0'>",
    "<base href=//example.invalid>", "<a href='javascript:hacked=1'>x</a>",
    "<!--><img src=x onerror=hacked=1>",
    "{{ 7*7 }}{% for i in (1,) %}", "${hacked=1}", "\\(\\href{javascript:hacked=1}{x}\\)",
    "\\boxed{\\text{<script>hacked=1</script>}}", "&lt;script&gt;hacked=1&lt;/script&gt;",
]  # fmt: skip
AROUND = ["{}", "</td></tr></table>{}", "</pre></div>{}", "</style></script>{}", "\"'>{}", "`{}`",
          "]]>{}", "\u202e{}", "Answer: {}", "\\boxed{{{}}}"]  # fmt: skip


def hostile():
    """200 strings that begin a script wherever they are taken for HTML."""
    return [around.format(text) for text in HOSTILE for around in AROUND]


def test_no_hostile_string_runs_on_the_page_or_in_a_notebook(browser, tmp_path):
    """As an answer that is graded, in a table's cells and names, in a sentence, as printed text."""
    said = hostile()
    assert len(set(said)) == 200
    profile = params.load("qwen3-4b")
    for golds in (["34"] * len(said), said):
        judged = tasks.judge(profile, said, golds)
        assert len(judged) == len(said) and not (golds[0] == "34" and judged["correct"].any())
    assert countdown.judge(profile.task, said, ["3 5 7 -> 36"] * len(said))["correct"].sum() == 0

    table = pd.DataFrame({"answer": said, said[0]: said}, index=said)
    sentence = " ".join(said)
    shown = Shown(table=table, as_text=table, sentence=sentence, reported=table)
    placed = Placed(Exhibit("x", said[1], "y", (), None), shown, Evidence(pd.DataFrame(
        {"seed": [1], "role": ["x"], "key": [""], "run": [SimpleNamespace(name=said[2])]})))  # fmt: skip
    cell = nbformat.v4.new_code_cell("show", outputs=[
        *(nbformat.v4.new_output("display_data", data) for data in shown.displays()),
        nbformat.v4.new_output("stream", text=sentence),
    ])  # fmt: skip
    notebook = tmp_path / "hostile.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), notebook)
    bound = tmp_path / "bound.html"
    bound.write_text(reproduce.bind([notebook], "hostile"))
    for file in (page.write(tmp_path, "smoke", [1], [placed]), bound):
        browser.get(file.as_uri())
        time.sleep(1)
        assert browser.execute_script("return typeof window.hacked") == "undefined", file
        cells = browser.execute_script(
            "return [...document.querySelectorAll('td')].map(cell => cell.textContent)"
        )
        assert set(said) <= set(cells), file


@pytest.fixture
def lab(executed, tmp_path):
    """JupyterLab over copies of two notebooks, on the smoke profile whose runs are finished."""
    for name in ("00_overview", "02_reheat"):
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            cell.source = cell.source.replace('profile = "laptop"', 'profile = "smoke"')
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyter",
                "lab",
                "--no-browser",
                "--allow-root",
                f"--port={port}",
                "--ServerApp.port_retries=0",
                "--IdentityProvider.token=",
                f"--ServerApp.root_dir={tmp_path}",
                "--LabApp.news_url=",
                "--LabApp.expose_app_in_browser=True",
                "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        for _ in range(120):
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def run_all(browser, url, name):
    """Open a notebook in JupyterLab and run all its cells; returns when the last one is done.

    By the command behind the menu's Run All Cells, called once the kernel answers: JupyterLab
    drops what is asked of it while the kernel still connects.
    """
    resize(browser, 1280, 1400)
    browser.set_script_timeout(300)
    browser.get(f"{url}/lab/tree/{name}.ipynb?reset")  # not the tabs of an earlier test
    WebDriverWait(browser, 120).until(
        lambda b: b.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell")
    )
    browser.execute_script("""
        const session = window.jupyterapp.shell.currentWidget.sessionContext;
        return session.ready.then(() => session.session.kernel.info)
            .then(() => window.jupyterapp.commands.execute('notebook:run-all-cells'))
            .then(() => true);
    """)
    assert not browser.find_elements(
        By.CSS_SELECTOR, "[data-mime-type='application/vnd.jupyter.error']"
    )


def test_reheat_runs_in_jupyterlab(browser, lab):
    run_all(browser, lab, "02_reheat")
    WebDriverWait(browser, 60).until(
        lambda b: b.find_elements(By.CSS_SELECTOR, ".jp-OutputArea img")
    )
    browser.save_screenshot(str(SHOTS / "lab-02_reheat.png"))


def test_the_slider_redraws_the_teacher(browser, lab):
    run_all(browser, lab, "00_overview")
    wait = WebDriverWait(browser, 60)
    handle = wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, ".widget-slider .noUi-handle"))[
        0
    ]
    before = wait.until(drawn)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", handle)
    for _ in range(8):
        handle.send_keys(Keys.ARROW_RIGHT)
    wait.until(lambda b: drawn(b) not in (None, before))
    browser.save_screenshot(str(SHOTS / "lab-00_overview-slider.png"))


def drawn(browser):
    """The picture under the slider, as its data URL; None while it is being replaced."""
    return browser.execute_script(
        "return document.querySelector('.widget-interact img')?.src ?? null"
    )
