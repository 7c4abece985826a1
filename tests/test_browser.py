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
from dataclasses import replace
from importlib.resources import files
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from companion import objective, params, tasks
from companion.analysis.positions import Position
from companion.commands import reproduce
from companion.exhibits import answers, explorer, page
from companion.exhibits.exhibit import Claim, Exhibit, Shown, Widget
from companion.exhibits.page import About
from companion.exhibits.placed import Placed
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
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_reads_everywhere_without_errors_or_a_network(browser, width, scheme):
    assert REPORT.stat().st_size <= 2_000_000
    resize(browser, width, 900)
    prefer(browser, scheme)
    browser.get(REPORT.as_uri())
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width  # wide tables scroll inside their own frame
    pictures = browser.find_elements(By.CSS_SELECTOR, "svg[role=img]")
    assert len(pictures) >= 14
    assert all(picture.get_attribute("aria-label") for picture in pictures)
    drawn = [picture for picture in pictures if picture.size["width"] > 200]
    stacked = browser.find_elements(By.CSS_SELECTOR, ".stacked svg")
    assert all(part.is_displayed() == (width < 640) for part in stacked)
    assert len(drawn) + len(stacked) >= 14
    assert complaints(browser) == []
    tall = browser.execute_script("return document.documentElement.scrollHeight")
    resize(browser, width, min(tall, 16000))
    browser.save_screenshot(str(SHOTS / f"report-{width}-{scheme}.png"))
    assert browser.get_log("browser") == []
    assert [url for url in requests(browser) if url.startswith(("http", "ws"))] == []


def prefer(browser, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def complaints(browser):
    """What axe-core finds wrong for readers who see, hear or move otherwise."""
    browser.execute_script((files("axe_playwright_python") / "axe.min.js").read_text())
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    return [
        (rule["id"], [node["html"][:200] for node in rule["nodes"][:3]])
        for rule in found["violations"]
    ]


LOGITS = [3.1, 2.2, 0.4, -0.5, -1.5, -4.0]


def moved(browser, **values):
    """Move the explorer's controls, and read its numbers."""
    browser.execute_script(
        """
        for (const [name, value] of Object.entries(arguments[0])) {
          const radio = document.querySelector(`input[name="${name}"][value="${value}"]`);
          const control = radio ?? document.getElementById(name);
          if (radio) radio.checked = true; else control.value = value;
          control.dispatchEvent(new Event("input", {bubbles: true}));
        }
        """,
        values,
    )
    place = browser.find_element(By.CSS_SELECTOR, "[data-widget=explorer]")
    return json.loads(place.get_attribute("data-state"))


def descended(z, tau, direction, teacher, steps, rate=0.5):
    """What explorer.js does, by objective.py's gradients or, towards a frozen teacher, by autograd."""
    still = objective.log_probs(z, tau)
    for _ in range(steps):
        x = z.clone().requires_grad_()
        log_p = objective.log_probs(x)
        log_q = still if teacher == "frozen" else objective.log_probs(z, tau)
        first, second = (log_q, log_p) if direction == "forward" else (log_p, log_q)
        (first.exp() * (first - second)).sum().backward()
        z = z - rate * x.grad
    return z


def test_the_explorer_moves_and_its_numbers_are_those_of_the_objective(browser, tmp_path):
    found = {
        name: Position("1 2 3 -> 6", "1 +", np.array(values, dtype=np.float32), list("abcdef"))
        for name, values in {"sharp": [9.0, *LOGITS[1:]], "hesitant": LOGITS}.items()
    }
    shown = Shown(
        widget=Widget(
            "explorer", {"tau": 1.2, "positions": [explorer._data(*p) for p in found.items()]}
        )
    )
    placed = Placed(explorer.EXHIBIT, shown, evidence("x"))
    browser.get(written(tmp_path, placed, About("smoke", [1], "a model")).as_uri())
    assert moved(browser) == moved(browser, tau=1.2, direction="forward", step=100, position=1)
    for which, logits in enumerate(found.values()):
        z = torch.tensor(logits.logits, dtype=torch.float64)
        for tau, direction, steps in (
            (1.2, "forward", 100),
            (0.8, "reverse", 7),
            (2.0, "reverse", 400),
        ):
            state = moved(browser, position=which, tau=tau, direction=direction, step=steps)
            expected = {
                "studentEntropy": objective.entropy(z), "teacherEntropy": objective.entropy(z / tau),
                "forwardKL": objective.forward_kl(z, tau), "reverseKL": objective.reverse_kl(z, tau),
                "forwardGradient": objective.forward_kl_gradient(z, tau),
                "reverseGradient": objective.reverse_kl_gradient(z, tau),
                **{f"{t}Entropy": objective.entropy(descended(z, tau, direction, t, steps))
                   for t in ("live", "frozen")},
            }  # fmt: skip
            for name, value in expected.items():
                np.testing.assert_allclose(state[name], value, atol=1e-6, err_msg=f"{name} {tau}")
    assert complaints(browser) == []
    browser.save_screenshot(str(SHOTS / "explorer.png"))
    assert browser.get_log("browser") == []


def test_the_answers_are_turned_over_as_text(browser, tmp_path):
    said = hostile()
    rows = pd.DataFrame(
        [
            {"policy": policy, "suite": "easy", "prompt": prompt, "answer": i, "correct": i < 5,
             "tokens": [said[0 if i < 3 else i], "yes", ""], "entropies": [0.5, 2.0, 0.1]}
            for policy in ("Base", said[5]) for prompt in ("1 2 -> 3", said[9]) for i in range(8)
        ]
    )  # fmt: skip
    shown = Shown(widget=Widget("answers", answers.data(rows)), table=answers.summary(rows))
    placed = Placed(answers.EXHIBIT, shown, evidence("x"))
    browser.get(written(tmp_path, placed, About("smoke", [1], "a model")).as_uri())
    for _ in range(2):
        columns = browser.find_elements(By.CSS_SELECTOR, ".policy")
        assert [c.find_element(By.TAG_NAME, "h4").text for c in columns] == ["Base", said[5]]
        assert "5 of 8 right, 6 different" in columns[0].text
        first = columns[0].find_elements(By.CSS_SELECTOR, ".answer")[0]
        assert "✓ right, 3 times" in first.text and said[0] in first.text
        words = first.find_elements(By.TAG_NAME, "span")
        shades = [word.get_attribute("style") for word in words]
        assert shades == ["--heat: 0.50;", "--heat: 1.00;"]
        browser.find_element(By.CSS_SELECTOR, "[data-part=next]").click()
    assert browser.execute_script("return typeof window.hacked") == "undefined"
    assert complaints(browser) == []
    assert browser.get_log("browser") == []


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


def evidence(name):
    return Evidence(
        pd.DataFrame({"seed": [1], "role": "x", "key": "", "run": [SimpleNamespace(name=name)]})
    )


def written(folder, placed, about):
    return page.write(folder, about, [placed])


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
    shown = replace(shown, claims=(Claim(sentence, sentence, sentence, sentence, "open"),))
    placed = Placed(Exhibit("x", said[1], "y", (), None), shown, evidence(said[2]))
    cell = nbformat.v4.new_code_cell("show", outputs=[
        *(nbformat.v4.new_output("display_data", data) for data in shown.displays()),
        nbformat.v4.new_output("stream", text=sentence),
    ])  # fmt: skip
    notebook = tmp_path / "hostile.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), notebook)
    bound = tmp_path / "bound.html"
    bound.write_text(reproduce.bind([notebook], "hostile"))
    for file in (written(tmp_path, placed, About(said[0], [1], said[1], *said[2:4])), bound):
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
