"""Find the tokens that each head promotes and suppresses."""

from selfrepair.ablation.lens import measure_lens
from selfrepair.core.program import program

program(measure_lens)
