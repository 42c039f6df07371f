"""Trainings of a controlled family that are kept with the code, and what was found, as a page."""

import shutil
from functools import partial
from pathlib import Path

import polars as pl

from selfrepair.core.files import write_atomically, write_text

# Of a run's folder, what is kept; the second part once all arms are compared.
OF_ARMS, OF_ALL = "arms/*/*", ("analysis/*.csv", "figures/architecture*.png")
PARTS = {"self_repair": "self-repair", "repair_norm": "norm", "repair_attention": "attention", "repair_mlp": "MLPs"}


def keep_arms(run: Path, study: Path) -> None:
    """Keep what is finished: the small tables of every training; and, once compared, tables, figures and a page.

    Args:
        run: folder of the family's run.
        study: folder under results/studies/.
    """
    for file in [file for pattern in (OF_ARMS, *OF_ALL) for file in sorted(run.glob(pattern))]:
        name = file.relative_to(run) if file.match(OF_ARMS) else file.name
        write_atomically(study / name, partial(shutil.copyfile, file))
    kept = sorted(path.parent.name for path in study.glob("arms/*/arm.json"))
    print(f"{len(kept)} trainings are kept in {study}")
    if (study / "differences.csv").is_file():
        write_text(study / "README.md", page(pl.read_csv(study / "differences.csv"), len(kept)))


def page(differences: pl.DataFrame, trainings: int) -> str:
    """What each feature does, in words, with the difference of self-repair and of its parts.

    Args:
        differences: `ARM_DIFFERENCES`.
        trainings: how many there are.
    """
    command = "snakemake --cores all --configfile config/studies/architecture.yaml"
    one = f"{command} results/architecture/arms/rotary-1/sums.parquet"
    lines = [
        "# architecture",
        "",
        f"{trainings} trainings, made by `{command}`, which finds them up to date. One is made again by `{one}`.",
        "",
        "Arm minus base, in shares of the direct effect (heads of the later half, top tokens), with 95 % intervals "
        "over seeds and documents.",
        "",
        "![architecture](architecture.png)",
        "",
        "| feature | compared at the same | " + " | ".join(PARTS.values()) + " | pairs of seeds | self-repair |",
        "|---|---|" + "---:|" * len(PARTS) + "---:|---|",
    ]
    for (arm, matched), rows in differences.group_by("arm", "matched", maintain_order=True):
        of = rows.rows_by_key("part", named=True, unique=True)
        numbers = [f"{of[part]['value']:.2f} [{of[part]['low']:.2f}, {of[part]['high']:.2f}]" for part in PARTS]
        whole = of["self_repair"]
        lines.append(f"| {arm} | {matched} | {' | '.join(numbers)} | {whole['n_seeds']} | {whole['answer']} |")
    return "\n".join([*lines, "", "![loss](architecture_loss.png)", ""])
