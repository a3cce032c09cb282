"""What the methods cost: learned numbers, operations, time and memory of a task."""
