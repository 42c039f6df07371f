"""Compare a run on the model whose self-repair is known with what follows on paper."""

from selfrepair.core.program import program
from selfrepair.report.known_answer import KnownAnswerError, check_known_answer

program(check_known_answer, KnownAnswerError)
