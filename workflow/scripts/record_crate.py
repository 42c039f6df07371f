"""Write the record of a run as an RO-Crate: results and inputs with SHA-256, code, configuration, machine, costs."""

import argparse
import json
from pathlib import Path

import polars as pl

from selfrepair.artifact.crate import METADATA, Sources, files_in, run_crate
from selfrepair.core.files import write_atomically

parser = argparse.ArgumentParser(description=__doc__, fromfile_prefix_chars="@")
parser.add_argument("--run", type=Path, required=True, help="folder of the run, into which the record is written")
parser.add_argument("--files", type=Path, nargs="+", required=True, help="what the run made")
parser.add_argument("--inputs", type=Path, nargs="+", required=True, help="what it read; of a directory, every file")
parser.add_argument("--models", nargs="+", required=True, help="directory of each measured model, as name=directory")
args = parser.parse_args()

inputs = [file for path in args.inputs for file in files_in(path)]
models = {name: Path(folder) for name, _, folder in (model.partition("=") for model in args.models)}
record = json.loads((args.run / "report/run.json").read_text())
costs = pl.read_csv(args.run / "report/costs.csv")
crate = run_crate(args.run, record, args.files, Sources(inputs, models), costs)
write_atomically(args.run / METADATA, lambda path: path.write_text(json.dumps(crate, indent=1) + "\n"))
