"""The drawn world: paper-doll portraits with planted bias and classroom-safe stand-ins for toxicity. Without torch."""
