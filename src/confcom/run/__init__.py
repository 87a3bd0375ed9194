"""`confcom run`: one program with a private AESM socket at the path of Intel's clients. `plan` decides without I/O."""
