"""Training of the sign finder; see `sign_finder`."""
