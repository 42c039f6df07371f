"""Record what a run was made with: configuration, seeds, versions, devices, machine, code."""

import argparse
import json
from pathlib import Path

from selfrepair.artifact.record import run_record
from selfrepair.core.files import write_atomically
from selfrepair.core.tables import read_made_with

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--config", required=True, help="configuration as JSON")
parser.add_argument("--jobs", nargs="+", required=True, help="names of the measuring jobs")
parser.add_argument("--measured", type=Path, nargs="+", required=True, help="a Parquet file of each of them")
parser.add_argument("--fetched", type=Path, nargs="*", default=[], help="records of what was fetched from a hub")
parser.add_argument("--snakemake", required=True, help="version of Snakemake")
parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
args = parser.parse_args()

jobs = {job: read_made_with(path) for job, path in zip(args.jobs, args.measured, strict=True)}
fetched = {f"{path.parent.name}/{path.stem}": json.loads(path.read_text()) for path in args.fetched}
record = json.dumps(run_record(json.loads(args.config), jobs, fetched, args.snakemake), indent=2)
write_atomically(args.output, lambda path: path.write_text(record + "\n"))
