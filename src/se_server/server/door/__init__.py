"""The door: accepts connections, checks them, and hands admitted upgrades over to conversations."""
