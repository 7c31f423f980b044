"""The public SDK: the REST clients, `SpeechEngineResource` and the server that runs inside one process."""
