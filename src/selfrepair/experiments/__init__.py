"""One module per experiment of the paper: tables of measurements in, tidy tables out."""
