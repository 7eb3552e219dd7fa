"""The parts of the Logs screen: what a line looks like, which lines are shown, how they are searched and saved."""
