"""A job from its price to its end: create, pay, finish. Each step is one transaction."""
