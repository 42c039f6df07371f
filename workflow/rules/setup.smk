# What every configuration's rules share: where things are, and the environment of every command.

import os
import sys
from pathlib import Path

# Found from here, as there are two files from which the workflow can start.
ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
sys.path[:0] = [f"{ROOT}/workflow/lib", f"{ROOT}/src"]

from arguments import arguments
from closure import code
from content import content_of
from environment import command_prefix
from locking import hold_lock
from report_marks import FIGURE_SUFFIXES, figure_files, shown

shell.prefix(command_prefix(str(ROOT)))

# Of a controlled family: what draws each figure, from which of its tables; and the tables that the paper tells of.
FAMILY_FIGURES = {
    "architecture": ("architecture", ["arms", "differences"]),
    "architecture_course": ("architecture", ["course"]),
    "architecture_adaptation": ("adaptation", ["evidence"]),
    "architecture_loss": ("architecture", ["course"]),
}
FAMILY_TABLES = ["arms", "differences", "onset", "evidence"]

CONFIGFILES = workflow.overwrite_configfiles or ["config/demo.yaml"]
