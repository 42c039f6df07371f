"""What the measurement costs, beside patching one head at a time."""
