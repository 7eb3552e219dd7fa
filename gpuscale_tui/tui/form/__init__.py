"""The form for jobs: what it is about, what it keeps, its editors."""
