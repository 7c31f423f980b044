"""What operators see: logs now; metrics and pages later."""
