"""The API's side of the wire, without an account: a sans-IO model and a client that drives it over a real socket."""
