"""`python -m train.evidence`: every training that the tables, figures and claims rest on, and their evaluation.

The plan is `ROUNDS`, the most informative first; each round ends with an evaluation of all that is there. Each training
is one command with all its settings in it; what is done is not done again, a killed one goes on, and any number of
processes may work on one folder. Trainings of a sweep must differ in nothing but what the sweep varies and the seed.

Two protocols: `SHIPPED`, which the shipped value encoders have too, for seeds and convergence; and `SHORT`, one pass
over fewer pairs, for sweeps, whose every training has it.
"""
