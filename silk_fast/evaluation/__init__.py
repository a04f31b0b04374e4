"""How good a codec is: scores beside other codecs, codebook use, and what its latent space means."""
