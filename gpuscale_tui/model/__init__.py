"""What things are: jobs, attempts, workers, offers, money, settings. No I/O, no clock, nothing awaited."""
