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

import nbformat
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from companion.params import ROOT

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
