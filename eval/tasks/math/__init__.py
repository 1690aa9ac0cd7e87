"""Mathematics with the answer in a box."""
