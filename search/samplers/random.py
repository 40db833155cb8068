"""Uniformly random candidates: the baseline that every other sampler has to beat (Bergstra and Bengio, 2012)."""


def make(seed: int):
    """Optuna's random sampler; constraints do not change what it draws."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)
