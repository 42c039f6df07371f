"""Measure self-repair: ablate heads and split what follows."""
