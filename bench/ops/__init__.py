"""One file per kernel: the cases at which it is compiled, checked and measured."""
