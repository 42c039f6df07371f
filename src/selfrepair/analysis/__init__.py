"""One module per experiment: raw tables in, tidy table out."""
