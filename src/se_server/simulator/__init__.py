"""The API's side of a conversation, simulated: a sans-IO model and the code that drives it."""
