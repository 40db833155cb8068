"""NSGA-II (Deb et al., 2002): evolution by non-dominated rank and crowding, feasible candidates first.

The population of 16 suits studies of some dozens to hundreds of candidates: after 16 random ones every
further generation breeds from the best.
"""

POPULATION = 16


def make(seed: int):
    """Optuna's NSGA-II with constrained domination."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(population_size=POPULATION, seed=seed)
