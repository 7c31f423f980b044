"""What the server does with the real LLM packages. Not collected by plain pytest: each package is skipped if missing."""
