"""Tables of the check on a GPU, and the page that is made from them; without packages that a bare GPU machine lacks."""

import csv
from pathlib import Path
from typing import Any

Row = dict[str, Any]
DIGITS = 4  # significant ones, in CSV files
SPEED = {  # unit, meaning
    "model": ("", "whose size the model with random weights has"),
    "precision": ("", "of the matrix products"),
    "tokens": ("(token, head)", "ablated in the batch"),
    "seconds": ("s", "time of the batch, median of its repetitions"),
    "us": ("µs", "time per (token, head)"),
    "mflop": ("MFLOP", "minimal arithmetic per (token, head)"),
    "tflops": ("TFLOP/s", "minimal arithmetic by time"),
    "mm_tflops": ("TFLOP/s", "of torch.mm in the same precision at the shapes of a layer's linear maps"),
    "peak_fraction": ("ratio", "tflops by mm_tflops"),
    "memory_gb": ("GB", "peak memory of the GPU, weights included"),
    "hours": ("hours", "for one million tokens and every head, extrapolated"),
    "gpu": ("", "name of the card"),
    "torch": ("", "version of torch"),
}
ERRORS = {
    "model": ("", "small model with random weights; `product` for a single product"),
    "precision": ("", "of the matrix products"),
    "quantity": ("", "what is compared"),
    "error": (
        "share",
        "on the GPU, against float64: largest, by largest logit or scale; root mean square of a product",
    ),
    "cpu_error": ("share", "the same on the CPU, which rounds to that precision"),
    "least": ("share", "less would be another precision"),
    "limit": ("share", "more is an error"),
}
NUMBERS = {name for table in (SPEED, ERRORS) for name, (unit, _) in table.items() if unit}


def write_rows(rows: list[Row], schema: dict[str, tuple[str, str]], path: Path) -> None:
    """Write a CSV file whose floats have `DIGITS` significant digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(schema), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{v:.{DIGITS}g}" if isinstance(v, float) else v for name, v in row.items()})


def read_rows(path: Path) -> list[Row]:
    """Read what `write_rows` wrote, no rows where there is no file; numbers are floats, and absent ones None."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{n: (float(v) if v else None) if n in NUMBERS else v for n, v in row.items()} for row in rows]


def gpu_page(folder: Path) -> str:
    """Text of docs/benchmark/gpu.md, from `gpu.csv` and `gpu_errors.csv` in the folder."""
    speed, errors = (read_rows(folder / f"{name}.csv") for name in ("gpu", "gpu_errors"))
    sections = [
        "# On a GPU",
        "Made in two minutes by `make gpu-check` on a machine with a GPU. Where torch, jaxtyping, safetensors and "
        "psutil are there, `PYTHONPATH=src python3 -m selfrepair.benchmark.gpu_check docs/benchmark` needs no network.",
    ]
    if not (speed or errors):
        return "\n\n".join([*sections, "Not run on a GPU."]) + "\n"
    sections += ["## Correctness", *_correctness(errors)] if errors else []
    sections += ["## Speed", *_speed(speed)] if speed else []
    for name, schema in (("gpu", SPEED), ("gpu_errors", ERRORS)):
        columns = _markdown(["column", "unit", "meaning"], [[f"`{n}`", *of] for n, of in schema.items()])
        sections += [f"### `{name}.csv`", columns]
    return "\n\n".join(section.rstrip() for section in sections) + "\n"


def _correctness(errors: list[Row]) -> list[str]:
    cells = []
    for model, precision in dict.fromkeys((row["model"], row["precision"]) for row in errors):
        of = [row for row in errors if (row["model"], row["precision"]) == (model, precision)]
        worst, split = max(of, key=lambda row: row["error"]), [row for row in of if row["quantity"] == "split"]
        cells.append(
            [
                model,
                precision,
                _tiny(worst["error"]),
                worst["quantity"],
                _tiny(max(row["cpu_error"] for row in of)),
                _tiny(worst["limit"]),
                _tiny(split[0]["error"]) if split else "",
            ]
        )
    titles = ["model", "precision", "largest error", "of", "on the CPU", "allowed", "split misses"]
    return [
        "Small models with random weights, every head in whole and in cut rows, against patching head by head in "
        "float64 on the CPU. Errors are the largest over all tokens, as shares of the largest logit (of the largest "
        "scale, for scales); those of a product are root mean squares. `on the CPU` is the largest error of a sweep "
        "there that rounds to the same precision. `split misses` is by how much the parts miss self-repair; the sweep "
        "checks that on every token. In float32 other ablations, clean direct effects, neurons and the iterative "
        "experiments' interventions are compared too, as shares of the largest value of each. The process asks for "
        "TF32 meanwhile where a model does not, and for float32 where it does.",
        _markdown(titles, cells),
    ]


def _speed(speed: list[Row]) -> list[str]:
    titles = [
        "model size",
        "precision",
        "µs per (token, head)",
        "TFLOP/s",
        "`torch.mm`, TFLOP/s",
        "of `torch.mm`",
        "peak memory, GB",
        "hours for a million tokens",
    ]
    names = ("us", "tflops", "mm_tflops", "peak_fraction", "memory_gb", "hours")
    cells = []
    for row in speed:
        us, tflops, mm, share, memory, hours = (row[name] for name in names)
        numbers = [_number(us), _number(tflops), _number(mm), f"{100 * share:.0f} %", _number(memory), _number(hours)]
        cells.append([row["model"], row["precision"], *numbers])
    cards = " and ".join(dict.fromkeys(f"{row['gpu']} (torch {row['torch']})" for row in speed))
    return [
        f"{cards}; random weights, rows of 128 tokens, every head, one batch as large as the package makes it or a "
        "part of it. The rate is that of the minimal arithmetic (`src/selfrepair/benchmark/flops.py`) by the time; "
        "beside it that of `torch.mm` in the same precision at the shapes of a layer's linear maps, on as many tokens "
        "as pass a layer together, the better of before and after. Hours are extrapolated.",
        _markdown(titles, cells),
    ]


def _markdown(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _number(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return ""
    digits = next((d for d, limit in enumerate((99.95, 9.995, 0.9995, 0.09995)) if abs(value) >= limit), 4)
    return f"{value:,.{digits}f}"


def _tiny(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-").replace("e+00", "")
