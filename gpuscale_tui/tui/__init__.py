"""The full-screen application: it reads the store, acts through the engine's commands, and never waits."""
