"""Who does it: async services that view, ask policy, act and record; and the commands of screen and verbs."""
