"""What the commands have in common: their arguments, their help and how they end."""
