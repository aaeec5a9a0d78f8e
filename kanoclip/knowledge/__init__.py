"""What is known about anomalies, in words."""
