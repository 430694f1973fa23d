"""Robots: bodies made of primitives, their kinematics and their actions."""
