"""Models: train the ones that the package ships, load any supported one, fold it into one canonical form."""
