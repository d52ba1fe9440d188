"""Commands of the shell that no other room owns: `compare` with one prompt or a file of them, `principles check`."""
