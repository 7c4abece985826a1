"""Run the notebooks in order, keep the executed copies, and bind them into one HTML page.

companion reproduce --profile smoke [--seed 2] [--only 01_collapse 02_reheat]
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import papermill
from nbconvert import HTMLExporter
from traitlets.config import Config

from companion import cli, params
from companion.params import ROOT

NOTEBOOKS = ROOT / "notebooks"


def reproduce(profile: str, seed: int | None = None, only: list[str] | None = None) -> Path:
    """Execute the notebooks on `profile`; returns the folder with the executed copies.

    Finished runs are reused and interrupted ones resume, so a second call trains nothing.
    """
    settings = params.load(profile, {"seed": seed})
    folder = ROOT / "runs" / profile / f"notebooks-seed{settings.seed}"
    executed = [
        execute(path, folder / path.name, {"profile": profile, "seed": settings.seed})
        for path in notebooks(only)
    ]
    page = folder / "report.html"
    page.write_text(bind(executed, title=f"TS-OPSD companion: {profile}, seed {settings.seed}"))
    print(f"{page.relative_to(ROOT)}: all {len(executed)} notebooks on one page")
    return folder


def notebooks(only: list[str] | None = None) -> list[Path]:
    """The notebooks in order, or those named in `only`; ValueError for a name that is none."""
    every = {path.stem: path for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    unknown = [name for name in only or [] if name not in every]
    if unknown:
        raise ValueError(f"notebook '{unknown[0]}' does not exist; use one of {', '.join(every)}")
    return [path for name, path in every.items() if not only or name in only]


def execute(notebook: Path, output: Path, parameters: dict[str, object]) -> Path:
    """Execute one notebook with papermill; its output streams to this process's stdout.

    Raises:
        ValueError: a parameter that the notebook's parameters cell does not have (papermill
            itself only warns).
        papermill.PapermillExecutionError: a cell failed; `output` holds all up to it.
    """
    known = papermill.inspect_notebook(str(notebook))
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise ValueError(
            f"'{unknown[0]}' is no parameter of {notebook.name}; it has {', '.join(known)}"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    print(f"\n== {notebook.stem}", flush=True)
    with TemporaryDirectory(prefix="kernel-") as sockets:
        # jupyter_client frees the TCP ports it chose before the kernel takes them, so a process
        # beside (Ray opens hundreds) can take one: the kernel dies. Files are the kernel's own.
        ipc = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/socket"}})
        papermill.execute_notebook(
            str(notebook),
            str(output),
            parameters,
            cwd=str(notebook.parent),
            log_output=True,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            progress_bar=False,
            config=ipc,
        )
    return output


def bind(executed: list[Path], title: str) -> str:
    """One HTML page with all cells of the executed notebooks, in order."""
    book = nbformat.v4.new_notebook()
    for path in executed:
        book.cells += nbformat.read(path, as_version=4).cells
    exporter = HTMLExporter(
        config=Config({"TagRemovePreprocessor": {"remove_cell_tags": ["injected-parameters"]}}),
        embed_images=True,
    )
    body, _ = exporter.from_notebook_node(book, resources={"metadata": {"name": title}})
    return body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", type=cli.profile, default="laptop")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", nargs="+", metavar="NOTEBOOK")
    arguments = parser.parse_args()
    profile = arguments.profile
    # Before any kernel starts: two torch processes on two cores, each with two threads of its
    # own choosing, slow each other down tenfold.
    os.environ.setdefault("OMP_NUM_THREADS", str(profile.hardware.threads))
    reproduce(profile.name, arguments.seed, arguments.only)
