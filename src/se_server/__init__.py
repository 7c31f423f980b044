"""se-server: serve ElevenLabs Speech Engine conversations on all cores."""
