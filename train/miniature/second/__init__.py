"""Trainings of the drawn world's second edition; at the switch they replace the first's in the folder above."""
