"""Measure what the ablation of each head costs in loss, and what it would cost if nothing responded."""

from selfrepair.ablation.loss import measure_loss
from selfrepair.core.program import program

program(measure_loss)
