"""What takes connections from listen sockets, checks them, and hands admitted upgrades over."""
