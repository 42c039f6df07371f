"""Build the shipped corpus anew."""

from selfrepair.core.program import program
from selfrepair.tokens.stdlib_corpus import build_corpus

program(build_corpus)
