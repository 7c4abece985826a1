"""Run the notebooks in order, keep the executed copies, and bind them into one HTML page.

Notebooks 00 to 04 build on each other. 05 to 10 need them and no other, so that some can be executed
beside each other; 11 and 12 show runs that those make as well, or each other, and a run is made once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import papermill
from nbconvert import HTMLExporter
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.log import logger
from traitlets.config import Config

from companion import params, runs
from companion.commands import compare
from companion.params import ROOT
from companion.schema import Profile
from companion.stages import keeper

NOTEBOOKS = ROOT / "notebooks"
BESIDE = ("05", "11")
"""The first notebook that may be executed beside others, and the first after it that may not."""
ALONE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}{% block jupyter_widgets %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}{% block html_head_js_mermaidjs %}{% endblock %}"""
"""nbconvert's page without the scripts that it would fetch: there is nothing for them to do."""
OWN = {"profile": "--profile", "seed": "--seed", "changes": "--set"}
"""Parameters of every notebook that have an option of their own."""


def run(
    profile: str,
    seed: int | None,
    only: Sequence[str],
    parameters: Sequence[tuple[str, object]],
    changes: Sequence[tuple[str, object]],
    jobs: int = 1,
) -> Path:
    """Execute the notebooks; returns the folder with the executed copies, bound in notebooks.html.

    Finished runs are reused and interrupted ones resume, so a second call trains nothing.

    Args:
        only: names of notebooks; all of them if empty.
        parameters: of notebooks; each goes to those that have it.
        changes: of fields of the profile; every notebook sees them, and a run's identity with it.
        jobs: how many of the notebooks 05 to 10 are executed at a time.

    Raises:
        ValueError: no such profile, field, notebook or parameter, or jobs on GPUs; nothing has
            been started then.
        SystemExit: a cell failed.
    """
    settings = params.load(profile, {"seed": seed}, dict(changes))
    if jobs > 1 and settings.hardware.platform == "gpu":
        raise ValueError(
            f"--jobs is {jobs}, and each run of '{profile}' takes every GPU; leave it out"
        )
    # Before any kernel starts: two torch processes on two cores, each with two threads of its
    # own choosing, slow each other down tenfold.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, settings.hardware.threads // jobs)))
    given = {"profile": profile, "seed": settings.seed, "changes": dict(changes) or None}
    folder = executed_folder(settings, dict(parameters))
    work = [
        (path, folder / path.name, {name: given[name] for name in OWN} | asked)
        for path, asked in shared_out(notebooks(only), dict(parameters)).items()
    ]
    first, after = BESIDE
    for one in (one for one in work if one[0].name < first):
        execute(*one)
    _beside(jobs, [one for one in work if first <= one[0].name < after])
    for one in (one for one in work if one[0].name >= after):
        execute(*one)
    page = folder / "notebooks.html"
    kept = sorted(folder.glob("*.ipynb"))  # those of earlier calls, too
    page.write_text(bind(kept, title=f"TS-OPSD companion: {profile}, seed {settings.seed}"))
    print(f"{page.relative_to(ROOT)}: {len(kept)} notebooks on one page")
    if not (only or parameters or changes) and compare.can_be_made(settings):
        compare.report(settings)
    return folder


def _beside(jobs: int, work: Sequence[tuple[Path, Path, dict[str, object]]]) -> list[Path]:
    """`execute` for each, so many at a time; a process each, which ends with this one."""
    if jobs == 1:
        return [execute(*one) for one in work]
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=keeper.end_with, initargs=(os.getpid(),)
    ) as pool:
        return list(pool.map(execute, *zip(*work, strict=True)))


def executed_folder(profile: Profile, parameters: Mapping[str, object] | None = None) -> Path:
    """Where executed notebooks are kept; with other settings than the profile's, elsewhere."""
    other = "".join(
        f"-{name}-{runs.slug(str(value))}" for name, value in (parameters or {}).items()
    )
    name = f"notebooks-seed{profile.seed}{params.variant(profile)}{other}"
    return ROOT / "runs" / profile.name / name


def notebooks(only: Sequence[str] = ()) -> list[Path]:
    """The notebooks in order, or those named in `only`; ValueError for a name that is none."""
    every = {path.stem: path for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    unknown = [name for name in only if name not in every]
    if unknown:
        raise ValueError(f"notebook '{unknown[0]}' does not exist; use one of {', '.join(every)}")
    return [path for name, path in every.items() if not only or name in only]


def shared_out(
    paths: Sequence[Path], parameters: Mapping[str, object]
) -> dict[Path, dict[str, object]]:
    """Which of the parameters each notebook gets: those that its parameters cell has.

    Raises:
        ValueError: a parameter that none of them has, or that is an option of its own.
    """
    known = {path: papermill.inspect_notebook(str(path)) for path in paths}
    every = list(dict.fromkeys(name for names in known.values() for name in names))
    for name, value in parameters.items():
        if name in OWN:
            raise ValueError(f"-p {name} is {value!r}; give it by {OWN[name]}")
        if name not in every:
            which = paths[0].name if len(paths) == 1 else "any of the notebooks"
            raise ValueError(f"'{name}' is no parameter of {which}; known: {', '.join(every)}")
    return {
        path: {name: value for name, value in parameters.items() if name in names}
        for path, names in known.items()
    }


class _Client(PapermillNotebookClient):
    """Without nbclient's stand-in for a browser's Output widgets (0.11, output_widget.py:63).

    It answers the kernel by the socket on which the cell's reply is awaited, and that reply may then
    never be seen: of cells with `ipywidgets.interact` one in some thirty stood still for good.
    """

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self.widget_registry: dict[str, Any] = {}


class _Engine(NBClientEngine):
    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, start_timeout: int = 60, **named: Any
    ) -> None:
        asked = {n: v for n, v in named.items() if n not in ("input_path", "execution_timeout")}
        asked |= {"kernel_name": kernel_name, "startup_timeout": start_timeout, "log": logger}
        _Client(nb_man, **asked).execute()


papermill_engines.register("companion", _Engine)


def execute(notebook: Path, output: Path, parameters: Mapping[str, object]) -> Path:
    """Execute one notebook with papermill; its output streams to this process's stdout.

    Raises:
        SystemExit: a cell failed, which is said in one sentence; `output` holds all up to it.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    print(f"\n== {notebook.stem}", flush=True)
    with TemporaryDirectory(prefix="kernel-") as sockets:
        # jupyter_client frees the TCP ports it chose before the kernel takes them, so a process
        # beside (Ray opens hundreds) can take one: the kernel dies. Files are the kernel's own.
        ipc = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/socket"}})
        try:
            papermill.execute_notebook(
                str(notebook),
                str(output),
                dict(parameters),
                engine_name="companion",
                cwd=str(notebook.parent),
                log_output=True,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                progress_bar=False,
                config=ipc,
            )
        except PapermillExecutionError as error:
            raise SystemExit(
                f"{notebook.name}, cell {error.exec_count}: {error.ename}: {error.evalue}\n"
                f"All up to it is in {output.relative_to(ROOT)}; the next call goes on from there."
            ) from None
    return output


def bind(executed: list[Path], title: str) -> str:
    """One HTML page with all cells of the executed notebooks, in order."""
    book = nbformat.v4.new_notebook()
    for path in executed:
        book.cells += nbformat.read(path, as_version=4).cells
    exporter = HTMLExporter(
        config=Config({"TagRemovePreprocessor": {"remove_cell_tags": ["injected-parameters"]}}),
        embed_images=True,
        raw_template=ALONE,
    )
    body, _ = exporter.from_notebook_node(book, resources={"metadata": {"name": title}})
    return body
