"""The paper's claims: statistics, verdicts, published values."""
