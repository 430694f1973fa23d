"""Fine-tuning: a run goes on learning from episodes that its own policy collects."""
