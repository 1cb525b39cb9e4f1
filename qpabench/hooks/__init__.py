"""What a plugin hands over, the hooks that ask for it, and the registry that keeps it."""
