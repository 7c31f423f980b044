"""The playground: a page on this machine to speak with the agent in a browser, in the API's place."""
