"""First floor: verbs. Pure functions over the nouns."""
