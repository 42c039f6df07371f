"""Download a model from a hub."""

from selfrepair.core.program import program
from selfrepair.models.from_hub import model_from_hub

program(model_from_hub, OSError, ValueError)
