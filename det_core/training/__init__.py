"""Training: the loop, its losses, what a step looks at, and the state it is resumed from."""
