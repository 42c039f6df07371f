"""Record what a run was made with: configuration, seeds, versions, device, machine, code."""

import argparse
import json
from pathlib import Path

from selfrepair.device import describe_device, pick_device
from selfrepair.provenance import run_record
from selfrepair.store import write_whole

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--config", required=True, help="configuration as JSON")
parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
args = parser.parse_args()

config = json.loads(args.config)
record = json.dumps(run_record(config, describe_device(pick_device(config["device"]))), indent=2)
write_whole(args.output, lambda path: path.write_text(record + "\n"))
