"""Evaluation: a policy acts in an environment, every episode becomes a row; reports of what came out."""
