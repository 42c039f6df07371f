"""Write the model whose self-repair is known, and its text."""

from selfrepair.core.program import program
from selfrepair.models.known_weights import build_known_answer

program(build_known_answer)
