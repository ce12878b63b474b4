"""Random faults on a whole rack while traffic runs: `make chaos SEED=n MINUTES=m`."""
