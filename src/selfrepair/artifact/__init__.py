"""Record, archive and verify a finished run."""
