"""Download a corpus from a hub."""

from selfrepair.core.program import program
from selfrepair.models.from_hub import corpus_from_hub

program(corpus_from_hub, OSError, ValueError)
