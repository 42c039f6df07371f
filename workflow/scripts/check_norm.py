"""Check the norm's part of self-repair by intervention."""

from selfrepair.ablation.frozen_norm import check_norm
from selfrepair.core.program import program

program(check_norm)
