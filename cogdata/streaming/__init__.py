"""From a frozen mixture to batches: sampling order, pool of decoded episodes, transitions."""
