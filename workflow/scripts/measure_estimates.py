"""Ablate every head in some rows, and estimate the same from gradients."""

from selfrepair.ablation.estimates import measure_estimates
from selfrepair.core.program import program

program(measure_estimates)
