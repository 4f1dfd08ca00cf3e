"""What a node counts and measures, as Prometheus reads it. Each node has a registry of its own."""

from l02.node.metrics.node import NodeMetrics

__all__ = ["NodeMetrics"]
