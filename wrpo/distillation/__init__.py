"""Token distributions of teachers: tables of them, their alignment, and the losses over them."""
