"""Write a GGUF file as a Hugging Face directory."""

from selfrepair.core.program import program
from selfrepair.models.gguf import convert_gguf

program(convert_gguf, ValueError, ModuleNotFoundError)
