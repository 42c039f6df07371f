"""Ablate chosen heads with several resample partners."""

from selfrepair.ablation.partners import measure_partners
from selfrepair.core.program import program

program(measure_partners)
