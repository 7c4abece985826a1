"""The command line, `companion --help`: its words and options, and what becomes of an error.

Knows nothing of what a command does: that is imported when it is called, for it takes seconds.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import companion

app = typer.Typer(
    help=companion.__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ProfileName = Annotated[
    str, typer.Option(help="A file of params/: laptop, smoke, qwen3-4b, …", show_default=True)
]
Seed = Annotated[int | None, typer.Option(help="The training seed; the profile's if not given.")]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Another value for a field of the profile, such as reheat.tau=1.3. Repeatable.",
    ),
]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"companion {companion.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Say which, and end."),
    ] = False,
) -> None:
    pass


Policy = Annotated[str, typer.Option(help="A Hugging Face folder, or a model of the hub.")]
Prompts = Annotated[
    str,
    typer.Option(
        help="JSON lines or parquet with `prompt` or `messages`, maybe `gold`; or a data set of the hub."
    ),
]
MaxTokens = Annotated[int, typer.Option(min=1, help="Tokens that an answer may have.")]
Platform = Annotated[str, typer.Option(help="cpu or gpu.")]
Out = Annotated[Path, typer.Option(help="A new folder.")]


@app.command()
def reheat(
    policy: Policy,
    prompts: Prompts,
    out: Out,
    teacher: Annotated[
        str,
        typer.Option(help="frozen: it has a fixed point; live: the paper's, which moves along."),
    ] = "frozen",
    tau: Annotated[
        float | None,
        typer.Option(help="The teacher's temperature; 1.5 frozen, 1.2 live if not given."),
    ] = None,
    direction: Annotated[str, typer.Option(help="forward or reverse KL.")] = "forward",
    until: Annotated[
        str, typer.Option(help="Entropy to stop at: nats, or a factor of today's such as 1.5x.")
    ] = "1.5x",
    threshold: Annotated[
        float | None,
        typer.Option(help="Of a live teacher: nats below which a policy is collapsed."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Instead: a policy, of whose entropy a third is that threshold."),
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(
            help="What judges answers to rows with a gold: exact, math, file.py:function."
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="By the policy's size if not given.")
    ] = None,
    max_tokens: MaxTokens = 512,
    platform: Platform = "cpu",
    seed: Seed = None,
    changes: Changes = None,
) -> None:
    """Reheat a policy of your own on prompts of your own; leaves it with a card in a new folder."""
    needs("swift", "mistune")
    from companion.commands import reheat as command

    made = command.run(
        policy,
        prompts,
        out,
        teacher=teacher,  # type: ignore[arg-type]  # looked at there
        tau=tau,
        direction=direction,  # type: ignore[arg-type]
        until=until,
        threshold=threshold,
        reference=reference,
        learning_rate=learning_rate,
        reward=reward,
        max_tokens=max_tokens,
        platform=platform,
        seed=seed,
        changes=dict(_pairs(changes, "--set")),
    )
    print(f"{made}: the reheated policy, with card.md and card.html")


@app.command()
def entropy(
    policy: Policy,
    prompts: Prompts,
    threshold: Annotated[
        float | None, typer.Option(help="Nats below which a policy is collapsed.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Instead: a policy, of whose entropy a third is that threshold."),
    ] = None,
    max_tokens: MaxTokens = 512,
    platform: Platform = "cpu",
) -> None:
    """The mean token entropy of a policy at T = 1, with its interval, and whether it is collapsed."""
    from companion.commands import entropy as command

    command.report(policy, prompts, threshold, reference, max_tokens=max_tokens, platform=platform)


@app.command()
def scale(
    policy: Policy,
    out: Out,
    tau: Annotated[float, typer.Option(help="What every logit is divided by.")],
) -> None:
    """A policy whose logits are another's divided by tau, exactly; nothing is trained or loaded."""
    from companion.commands import weights

    print(f"{weights.scale(policy, tau, out)}: every logit divided by {tau:g}")


@app.command()
def merge(
    policy: Policy,
    base: Annotated[str, typer.Option(help="The policy that it was trained from.")],
    strength: Annotated[float, typer.Option(help="The base's share, above 0 and at most 1.")],
    out: Out,
) -> None:
    """A policy whose weights lie between another's and its base's; nothing is trained or loaded."""
    from companion.commands import weights

    print(f"{weights.merge(policy, base, strength, out)}: {strength:g} of the base's weights")


@app.command()
def reproduce(
    profile: ProfileName = "laptop",
    seed: Seed = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NOTEBOOK", help="This notebook alone, such as 02_reheat. Repeatable."
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            metavar="NAME VALUE",
            help="A parameter for each notebook that has it, such as tau 1.3. Repeatable.",
        ),
    ] = None,
    changes: Changes = None,
    jobs: Annotated[int, typer.Option(min=1, help="Of notebooks 05 to 10 at a time.")] = 1,
) -> None:
    """Run the notebooks in order and bind them into one page. Finished runs are reused."""
    from companion.commands import reproduce as command

    command.run(profile, seed, only or [], _pairs(parameter, "-p"), _pairs(changes, "--set"), jobs)


@app.command()
def compare(profile: ProfileName = "laptop", seed: Seed = None) -> None:
    """Your study beside the published one and the paper: which of its numbers lie where expected."""
    from companion import params
    from companion.commands import compare as command

    command.report(params.load(profile, {"seed": seed}))


@app.command()
def publish(profile: ProfileName = "laptop", seed: Seed = None) -> None:
    """Copy a finished seed to results/, then redraw from there."""
    from companion import params
    from companion.commands import publish as command

    target = command.publish(params.load(profile, {"seed": seed}))
    print(f"published to {target.relative_to(params.ROOT)}/")


@app.command()
def ship(profile: ProfileName = "laptop", seed: Seed = None) -> None:
    """Copy a seed's collapsed policy to results/checkpoints/."""
    from companion import params
    from companion.commands import checkpoints

    target = checkpoints.ship(params.load(profile, {"seed": seed}))
    print(f"shipped to {target.relative_to(params.ROOT)}/")


@app.command()
def restore(profile: ProfileName = "laptop", seed: Seed = None) -> None:
    """Begin a seed with its shipped collapsed policy, instead of training it."""
    from companion import params
    from companion.commands import checkpoints

    run = checkpoints.restore(params.load(profile, {"seed": seed}))
    print(f"finished: {run.folder.relative_to(params.ROOT)}/")


@app.command()
def figures(profile: ProfileName = "laptop") -> None:
    """Redraw tables, figures and the page from the published measurements; trains nothing."""
    from companion import exhibits, params
    from companion.commands import manifest

    name = params.load(profile).name
    manifest.check_unchanged(params.ROOT / "results" / name)
    target = exhibits.redraw(name)
    print(f"redrawn: {target.relative_to(params.ROOT)}/tables, figures, report.html and README.md")


@app.command()
def verify(profile: ProfileName = "laptop") -> None:
    """Check every hash of what is published, and draw it all again. Status 1 if anything is wrong."""
    from companion import params
    from companion.commands import verify as command

    wrong = command.verify(params.load(profile).name)
    for sentence in wrong:
        print(f"WRONG: {sentence}")
    print("all is as it was published" if not wrong else f"{len(wrong)} wrong")
    raise typer.Exit(1 if wrong else 0)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of an evaluation: runs/…/evaluate-…")],
    folder: Annotated[Path, typer.Argument(help="Where to write.")],
) -> None:
    """Write an evaluation in the format of lm-evaluation-harness."""
    from companion import runs
    from companion.commands import export as command

    print(command.export(runs.read_run(run), folder))


@app.command()
def doctor(profile: ProfileName = "laptop", changes: Changes = None) -> None:
    """Does this machine have what a profile needs? Ends with status 1 if anything is missing."""
    from companion import params
    from companion.commands import doctor as command

    complete = command.report(params.load(profile, changes=dict(_pairs(changes, "--set"))))
    raise typer.Exit(0 if complete else 1)


@app.command()
def plan(profile: ProfileName = "laptop", changes: Changes = None) -> None:
    """What a profile takes: memory, tokens, hours, disk, and the commands; starts nothing."""
    from companion import params
    from companion.commands import plan as command

    command.report(params.load(profile, changes=dict(_pairs(changes, "--set"))))


def needs(*packages: str) -> None:
    """ValueError if one of the packages of the extra "frameworks" is not installed."""
    if missing := [name for name in packages if not importlib.util.find_spec(name)]:
        raise ValueError(
            f"this needs {' and '.join(missing)}, of the extra 'frameworks'; install it with: "
            "pip install 'ts-opsd-companion[frameworks]', or work from a clone"
        )


def _pairs(words: list[str] | None, option: str) -> list[tuple[str, object]]:
    """NAME=VALUE each; values as papermill reads them, and for fields of a profile as YAML."""
    import yaml
    from papermill.cli import _resolve_type  # what `papermill -p` makes of a word

    read = yaml.safe_load if option == "--set" else _resolve_type
    pairs = []
    for word in words or []:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise ValueError(f"{option} is '{word}' and must give a name its value")
        try:
            pairs.append((name, read(value)))
        except yaml.YAMLError:
            raise ValueError(f"{option} is '{word}', whose value is no YAML; quote it") from None
    return pairs


def joined(words: list[str]) -> list[str]:
    """`-p NAME VALUE`, as papermill has it, in the one word that Typer can repeat."""
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        found.append(word)
        if word == "-p" and (name := next(rest, None)) is not None:
            value = None if "=" in name else next(rest, None)
            found.append(name if value is None else f"{name}={value}")
    return found


def main() -> None:
    """Run the command line; what is wrong with the input is one sentence, and exit status 2.

    That is what ValueError (NotFinished among them) and OSError say here: a name that does not
    exist, a value that cannot be, a file that is missing or cannot be read.
    """
    try:
        app(joined(sys.argv[1:]), prog_name="companion")
    except (ValueError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(
            f"companion: {' '.join(str(error).split())}", markup=False, highlight=False
        )
        sys.exit(2)
