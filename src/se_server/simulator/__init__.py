"""The API's side of the wire, without an account: a sans-IO model, and conversations that drive it over any link."""
