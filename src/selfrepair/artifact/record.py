"""What a run was made with, and checksums."""

import json
import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from selfrepair import __version__
from selfrepair.core.files import git, modifications, write_text
from selfrepair.core.tables import read_made_with


def record_run(
    config: str,
    listed: Path,
    snakemake: str,
    output: Path,
    fetched: list[Path] = [],  # noqa: B006
) -> None:
    """Record what a run was made with: configuration, seeds, versions, devices, machine, code.

    Args:
        config: configuration as JSON.
        listed: JSON file with a Parquet file of each measuring job, by the job's name.
        snakemake: version of Snakemake.
        output: JSON file to write.
        fetched: records of what was fetched from a hub.
    """
    made_with = {job: read_made_with(Path(path)) for job, path in json.loads(listed.read_text()).items()}
    records = {f"{path.parent.name}/{path.stem}": json.loads(path.read_text()) for path in fetched}
    write_text(output, json.dumps(run_record(json.loads(config), made_with, records, snakemake), indent=2) + "\n")


def run_record(
    config: dict[str, Any], jobs: dict[str, dict[str, str]], fetched: dict[str, dict[str, Any]], snakemake: str
) -> dict[str, Any]:
    """Describe a run: its configuration, the code's version and commit, the machine, its jobs, and all packages.

    `commit` is null outside a Git checkout; `modified` tells whether tracked files differ from it. The date is that of
    the commit or, without one, today's. The machine is the one that writes the record.

    Args:
        jobs: `job_record` of each measuring job, by name.
        fetched: id, commit and checksums of each model and corpus that comes from a hub.
        snakemake: version of the Snakemake that runs the workflow; it need not be among the packages of the job.
    """
    status = modifications()
    return {
        "config": config,
        "version": __version__,
        "commit": git("rev-parse", "HEAD"),
        "date": git("show", "--no-patch", "--format=%cI", "HEAD") or f"{datetime.now(UTC):%Y-%m-%d}",
        "modified": None if status is None else bool(status),
        "python": platform.python_version(),
        "snakemake": snakemake,
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6,
        },
        "devices": sorted({job["device"] for job in jobs.values()}),
        "precisions": sorted({job["precision"] for job in jobs.values()}),
        "jobs": jobs,
        "fetched": fetched,
        "packages": dict(sorted((d.metadata["Name"], d.version) for d in distributions())),
    }


def processor() -> str:
    """Model of the processor, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return named[1] if named else platform.processor() or platform.machine()
