"""For loops of others that a closure cannot be handed to; each module needs its own library."""
