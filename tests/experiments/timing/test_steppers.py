"""What the paper's epochs say of the cost of a step, where they say something."""

import yaml

from experiments.config import commandline
from experiments.config.compose import composed
from experiments.timing.steppers import published_ratio


def test_only_the_families_of_the_paper_have_a_published_cost():
    table = yaml.safe_load((commandline.CONF / "paper" / "seconds_per_step.yaml").read_text())
    assert published_ratio(composed(["optimizer=kfac", "model=small_cnn"])) == table["cnn"]["kfac"]
    assert published_ratio(composed(["optimizer=kfac", "task=diabetes"])) is None
