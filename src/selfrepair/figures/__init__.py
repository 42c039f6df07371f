"""Figures: each module draws a tidy table as a chart; `theme` is their common look, `save` writes them."""
