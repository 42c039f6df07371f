"""Train a shipped model."""

from selfrepair.core.program import program
from selfrepair.models.train import train_model

program(train_model)
