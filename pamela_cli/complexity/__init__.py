"""What the methods cost: meta-parameters, operations, time and memory of a task."""
