"""Training: data, losses, the two stages, and what watches over them."""
