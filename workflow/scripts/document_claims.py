"""Write docs/claims.md."""

from selfrepair.core.program import program
from selfrepair.report.claims_page import write_claims_page

program(write_claims_page)
