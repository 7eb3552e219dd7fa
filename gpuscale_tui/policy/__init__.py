"""What to do next: pure functions from a view of the world to a plan, each action with its reason."""
