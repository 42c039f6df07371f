"""The explorer: one HTML file that shows every head of a run, and needs no network."""
