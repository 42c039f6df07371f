"""Measure single neurons while chosen heads are ablated."""

from selfrepair.ablation.neurons import measure_neurons
from selfrepair.core.program import program

program(measure_neurons)
