"""From a frozen mixture to batches: sampling order, replay pool of decoded episodes, transitions."""
