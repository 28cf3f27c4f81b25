"""Real processes, killed, stopped and frozen while clients work; then every answer is held against what is left."""
