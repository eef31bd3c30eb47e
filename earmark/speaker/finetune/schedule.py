"""Schedules of the learning rate and of the margin, as functions of the number of finished steps."""

from earmark.speaker.finetune.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int, processes: int = 1) -> float:
    """Learning rate of a step: exponential decay from the first to the last value over all steps.

    Parameters
    ----------
    recipe : Recipe
    step : int
        Number of finished steps, from 0.
    steps_per_epoch : int
    processes : int
        Number of processes that share an epoch.

    Returns
    -------
    float
        Above 0. With `reference_batch`, multiplied by batch_size · processes / reference_batch; during warm-up, by a
        factor that rises linearly to 1.

    Examples
    --------
    >>> from earmark.speaker.finetune.recipe import recipes
    >>> [learning_rate(recipes()["strict"], step, 100) for step in (0, 600)]
    [5e-05, 1e-05]
    >>> f'{learning_rate(recipes()["published"], 0, 4265):.4g}'
    '1.875e-05'
    """
    first, last = recipe.learning_rate
    rate = first * (last / first) ** (step / (recipe.epochs * steps_per_epoch))
    if recipe.reference_batch:
        rate *= recipe.batch_size * processes / recipe.reference_batch
    warmup = recipe.warmup_epochs * steps_per_epoch
    return rate * min(1.0, (step + 1) / warmup) if warmup else rate


def margin(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Margin of a step: linear from the first to the last value between two epochs, constant outside.

    Parameters
    ----------
    recipe : Recipe
        `margin_first_epoch` is 1 for the arithmetic of WeSpeaker, which counts epochs from 1 although its settings
        count them from 0; 0 for the schedule as written.
    step : int
        Number of finished steps, from 0.
    steps_per_epoch : int

    Returns
    -------
    float
        In radians.

    Examples
    --------
    >>> from earmark.speaker.finetune.recipe import recipes
    >>> [round(margin(recipes()["published"], step, 100), 6) for step in (0, 100, 200)]
    [0.1, 0.2, 0.3]
    >>> [round(margin(recipes()["strict"], step, 100), 6) for step in (0, 100, 200, 300)]
    [0.0, 0.1, 0.2, 0.3]
    """
    first, last = recipe.margin
    start, fixed = ((epoch - recipe.margin_first_epoch) * steps_per_epoch for epoch in recipe.margin_epochs)
    if step >= fixed:
        return last
    return first if step < start else first + (last - first) * (step - start) / (fixed - start)
