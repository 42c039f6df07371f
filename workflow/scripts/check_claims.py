"""Judge the paper's claims from the summaries of a run."""

from selfrepair.core.program import program
from selfrepair.report.claims_table import check_claims

program(check_claims)
