"""How numbers, optimizers, recipes and measurements are written for people."""
