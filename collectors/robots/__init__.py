"""Robots: bodies made of primitives, with their kinematics and the meaning of their actions."""
