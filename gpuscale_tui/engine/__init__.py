"""Who does it: async services that view, ask policy, act and record; and the one command surface of screen and verbs."""
