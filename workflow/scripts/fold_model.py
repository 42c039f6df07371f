"""Fold a model and check it."""

from selfrepair.core.program import program
from selfrepair.models.load import fold_model

program(fold_model, ValueError)
