"""Ablate every head in a shard of the rows."""

from selfrepair.ablation.shard import ablate_heads
from selfrepair.core.program import program

program(ablate_heads)
