"""Nothing to wait for."""
