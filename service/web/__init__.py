"""What the service shows over HTTP: metrics, health and state."""
