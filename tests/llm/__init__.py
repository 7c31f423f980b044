"""The server with the real LLM packages. Plain pytest does not collect it; a package that is missing is skipped."""
